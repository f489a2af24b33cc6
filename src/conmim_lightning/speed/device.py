"""What a device can do, measured: products of matrices, and memory that was in use."""

import ctypes
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch


def training_device(accelerator: str) -> torch.device:
    """Where one process trains.

    Args:
        accelerator: Lightning's name of the device; "cpu" leaves a GPU alone.

    Raises:
        ValueError: a GPU is asked for and not there, or the device is of another kind.
    """
    if accelerator not in ("auto", "cpu", "gpu", "cuda"):
        raise ValueError(f"trainer.accelerator={accelerator!r} cannot be timed; auto, cpu, gpu and cuda can")
    if accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError(f"trainer.accelerator={accelerator!r}, but torch finds no GPU here")
    return torch.device("cuda" if torch.cuda.is_available() and accelerator != "cpu" else "cpu")


def wait(device: torch.device) -> None:
    """Return when the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def told_device(device: torch.device) -> str:
    """Its name; of a CPU also the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} threads"


def _processor() -> str:
    """What Linux calls the processor; elsewhere its family."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return f"{platform.machine()} CPU"


def memory_limit(device: torch.device, gib: float | None = None) -> int:
    """Bytes that one process may take.

    Args:
        device: to train on.
        gib: that many GiB; None takes nine tenths of what is free, of the GPU or of a machine without one.
    """
    if gib is not None:
        return int(gib * 2**30)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] * 9 // 10
    if sys.platform.startswith("linux"):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
        free = min([free, *_left_to_groups(Path("/sys/fs/cgroup"))])
    else:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return free * 9 // 10


def _left_to_groups(root: Path) -> list[int]:
    """Bytes that the process's control group (version 2), of a container or a job, and those above it still allow."""
    try:
        named = Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
    except OSError:
        return []
    found, group = [], root / named
    for place in (group, *group.parents):
        try:
            most = (place / "memory.max").read_text().strip()
            used = (place / "memory.stat").read_text().split()
        except OSError:  # no such group here, or the topmost, which has no limit
            continue
        if most != "max":
            found.append(max(0, int(most) - int(used[used.index("anon") + 1])))
    return found


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """How long a call takes, the device's work included."""
    wait(device)
    started = time.perf_counter()
    call()
    wait(device)
    return time.perf_counter() - started


def product_rate(device: torch.device, dtype: torch.dtype, *, size: int | None = None, rounds: int = 7) -> float:
    """Operations a second (a multiply-add counts 2) of a product of square random matrices: the median.

    Args:
        device: to measure.
        dtype: of the matrices.
        size: rows and columns; None takes 8192 on a GPU and 2048 on a CPU.
        rounds: that are timed, after two that are not; of one product on a CPU, on a GPU of a hundred in a row, since
            it slows down under steady work.
    """
    on_gpu = device.type == "cuda"
    size, products = size or (8192 if on_gpu else 2048), 100 if on_gpu else 1
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)

    def multiply() -> None:
        for _ in range(products):
            torch.mm(left, right, out=out)

    found = [seconds(multiply, device) for _ in range(2 + rounds)][2:]
    if on_gpu:
        del left, right, out
        torch.cuda.empty_cache()
    return 2 * products * size**3 / statistics.median(found)


def forget_peak(device: torch.device) -> int:
    """Begin to measure the peak of memory anew, on Linux and GPUs; the bytes in use now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes(device)


def peak_bytes(device: torch.device) -> int:
    """Most memory in use since ``forget_peak``: of torch on a GPU, else of the process, libraries included."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform.startswith("linux"):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
