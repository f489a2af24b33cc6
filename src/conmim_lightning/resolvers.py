"""Functions that configurations may call."""

import netrc
import os
from pathlib import Path

from omegaconf import OmegaConf


def divide(whole: int, part: int, what: str) -> int:
    """``whole / part`` for configurations; ValueError where it does not divide."""
    if part < 1 or whole % part:
        raise ValueError(f"{what}: {whole} is not divisible by {part}")
    return whole // part


def precision(accelerator: str = "auto") -> str:
    """bf16-mixed where the device computes in bfloat16 (GPUs, CPUs with AVX512-BF16), else 32-true.

    Args:
        accelerator: Lightning's name of the device, such as "auto", "gpu" or "cpu".
    """
    import torch

    if accelerator != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16-mixed" if native() else "32-true"


def required(what: str) -> None:
    """For a value that a group has a default for, but an experiment asks of the user."""
    raise ValueError(f"missing; {what}")


def count_classes(root: str, part: str) -> int:
    """Number of class folders in ``root/part``; ValueError where there is no such folder, or no class."""
    place = Path(root, part)
    if not place.is_dir():
        raise ValueError(f"folder {str(place)!r} does not exist; it should hold a folder for each class")
    count = sum(entry.is_dir() and not entry.name.startswith(".") for entry in os.scandir(place))
    if count < 2:
        raise ValueError(f"folder {str(place)!r} holds {count} class folders; at least 2 are needed")
    return count


def evaluation_resize(size: int) -> int:
    """Pixels of the shorter side before the central square (official: 8/7 of it, from 384 on the size itself)."""
    if not isinstance(size, int):
        raise ValueError(f"backbone.img_size must be a whole number, the side of square images, got {size}")
    return size if size >= 384 else int(size / (224 / 256))


def without_credential(variable: str, host: str) -> bool:
    """Whether neither the environment variable is set nor the netrc file knows the host."""
    if os.environ.get(variable):
        return False
    try:
        return netrc.netrc().authenticators(host) is None
    except (OSError, netrc.NetrcParseError):
        return True


def register_resolvers() -> None:
    """Make the functions above and ``process``, the number of this process, known to configurations."""
    OmegaConf.register_new_resolver("process", os.getpid, replace=True)
    for resolver in (required, divide, precision, count_classes, evaluation_resize, without_credential):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
