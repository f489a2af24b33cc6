"""Functions that configurations may call; none of them reads images or annotations."""

import netrc
import os
import time

from omegaconf import OmegaConf

RUN_NAME = "CONMIM_RUN_NAME"
"""Environment variable with the name of the run's folder, which ``runtime.launch`` sets."""


def run_name() -> str:
    """Return the name of the run's folder: the same in all ranks, and in the processes that a sweep starts."""
    return os.environ.get(RUN_NAME) or f"{time.strftime('%Y-%m-%d/%H-%M-%S')}-{os.getpid()}"


def divide(number: int, divisor: int, what: str) -> int:
    """Return ``number / divisor``; raise ValueError if there is a remainder, or for other than whole numbers."""
    if not isinstance(number, int) or not isinstance(divisor, int):
        raise ValueError(f"{what}: whole numbers are needed, got {number!r} and {divisor!r}")
    if divisor < 1 or number % divisor:
        raise ValueError(f"{what}: {number} is not divisible by {divisor}")
    return number // divisor


def precision(accelerator: str = "auto") -> str:
    """Return bf16-mixed if the device computes in bfloat16 (GPUs, CPUs with AVX512-BF16), otherwise 32-true.

    Args:
        accelerator: Lightning's name of the device, such as "auto", "gpu" or "cpu".
    """
    import torch

    if accelerator != "cpu" and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16-mixed" if native() else "32-true"


def required(hint: str) -> None:
    """Raise an error with a hint: the group has a default, but the experiment requires a value from the user."""
    raise ValueError(f"missing; {hint}")


def segmentation_blocks(depth: int) -> list[int]:
    """Return the blocks at a third, half, two thirds and the end (official: 3, 5, 7, 11 of 12; 7, 11, 15, 23 of 24)."""
    return [round(depth * fraction) - 1 for fraction in (1 / 3, 1 / 2, 2 / 3, 1)]


def quarter_blocks(depth: int) -> list[int]:
    """Return the last block of each quarter (2, 5, 8, 11 of 12)."""
    return [depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]


def last_block(depth: int) -> list[int]:
    """Return the index of the last block, in a list."""
    return [depth - 1]


def sliding_stride(size: int) -> int:
    """Return two thirds of the window size (official: 341 of 512)."""
    return size * 341 // 512


def tenth_of_run(steps: int, accumulate: int) -> int:
    """Return the number of batches in a tenth of the optimizer steps, at least one."""
    return max(1, steps * accumulate // 10)


def step_limit(steps: int | None) -> int:
    """Return the length of a schedule in steps as Lightning's max_steps: -1, no limit, for one in epochs."""
    return -1 if steps is None else steps


def evaluation_resize(size: int) -> int:
    """Return the shorter side in pixels before the central crop (official: 8/7 of the size; the size from 384 on)."""
    if not isinstance(size, int):
        raise ValueError(f"backbone.img_size must be an integer, the side of square images, got {size}")
    return size if size >= 384 else int(size / (224 / 256))


def without_credential(variable: str, host: str) -> bool:
    """Return whether neither the environment variable nor the netrc file has a credential for the host."""
    if os.environ.get(variable):
        return False
    try:
        return netrc.netrc().authenticators(host) is None
    except (OSError, netrc.NetrcParseError):
        return True


_RESOLVERS = (
    run_name,
    required,
    divide,
    precision,
    segmentation_blocks,
    quarter_blocks,
    last_block,
    sliding_stride,
    tenth_of_run,
    step_limit,
    evaluation_resize,
    without_credential,
)


def register_resolvers() -> None:
    """Register the functions above."""
    for resolver in _RESOLVERS:
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
