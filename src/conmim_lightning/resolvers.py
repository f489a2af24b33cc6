"""Functions that configurations may call."""

import json
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


def count_categories(root: str, annotations: str, part: str) -> int:
    """Number of categories of a part's COCO JSON below root; ValueError where there is none."""
    path = Path(root, annotations.format(part=part))
    try:
        return len(json.loads(path.read_bytes())["categories"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"annotations {str(path)!r} cannot be read as COCO JSON: {error}") from error


def names_file(root: str, name: str) -> str | None:
    """The name of a file below root, or null if it is not there."""
    return name if Path(root, name).is_file() else None


def segmentation_blocks(depth: int) -> list[int]:
    """Blocks at a third, half, two thirds and the end (official: 3, 5, 7, 11 of 12; 7, 11, 15, 23 of 24)."""
    return [round(depth * share) - 1 for share in (1 / 3, 1 / 2, 2 / 3, 1)]


def quarter_blocks(depth: int) -> list[int]:
    """The last block of each quarter (2, 5, 8, 11 of 12)."""
    return [depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]


def sliding_stride(size: int) -> int:
    """Two thirds of a window (official: 341 of 512)."""
    return size * 341 // 512


def tenth(steps: int, accumulate: int) -> int:
    """Batches in a tenth of so many optimizer steps, at least one."""
    return max(1, steps * accumulate // 10)


def last_block(depth: int) -> list[int]:
    """The last block alone, in a list."""
    return [depth - 1]


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


_RESOLVERS = (
    required,
    divide,
    precision,
    count_classes,
    count_categories,
    names_file,
    segmentation_blocks,
    quarter_blocks,
    last_block,
    sliding_stride,
    tenth,
    evaluation_resize,
    without_credential,
)


def register_resolvers() -> None:
    """Make the functions above and ``process``, the number of this process, known to configurations."""
    OmegaConf.register_new_resolver("process", os.getpid, replace=True)
    for resolver in _RESOLVERS:
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
