"""Measurements of a device: matrix products, memory, and time."""

import ctypes
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import torch


def training_device(accelerator: str) -> torch.device:
    """Return the device on which one process trains.

    Args:
        accelerator: Lightning's name of the device; "cpu" ignores a GPU.

    Raises:
        ValueError: a GPU is requested but not available, or the device is neither GPU nor CPU.
    """
    if accelerator not in ("auto", "cpu", "gpu", "cuda"):
        raise ValueError(f"trainer.accelerator={accelerator!r} cannot be timed; auto, cpu, gpu and cuda can")
    if accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ValueError(f"trainer.accelerator={accelerator!r}, but torch finds no GPU here")
    return torch.device("cuda" if torch.cuda.is_available() and accelerator != "cpu" else "cpu")


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe_device(device: torch.device) -> str:
    """Return the name of the device; for a CPU also the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {torch.get_num_threads()} threads"


def processor() -> str:
    """Return the processor's model name on Linux; elsewhere its family."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return f"{platform.machine()} CPU"


def memory_limit(device: torch.device, gib: float | None = None) -> int:
    """Return the bytes that one process may use.

    Args:
        device: device to train on.
        gib: limit in GiB; None uses nine tenths of the free memory of the GPU, or of the machine if there is no GPU.
    """
    if gib is not None:
        return int(gib * 2**30)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] * 9 // 10
    return min([psutil.virtual_memory().available, *_cgroup_limits(Path("/sys/fs/cgroup"))]) * 9 // 10


def _cgroup_limits(root: Path) -> list[int]:
    """Return the bytes still allowed by each cgroup (version 2) of the process, as set by a container or a job."""
    try:
        name = Path("/proc/self/cgroup").read_text().rpartition("0::/")[2].strip()
    except OSError:
        return []
    limits, group = [], root / name
    for folder in (group, *group.parents):
        try:
            limit = (folder / "memory.max").read_text().strip()
            used = (folder / "memory.stat").read_text().split()
        except OSError:  # not a cgroup, or the root cgroup, which has no limit
            continue
        if limit != "max":
            limits.append(max(0, int(limit) - int(used[used.index("anon") + 1])))
    return limits


def time_call(call: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that a call takes, including the work on the device."""
    synchronize(device)
    started = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - started


def matmul_rate(device: torch.device, dtype: torch.dtype, *, size: int | None = None, rounds: int = 7) -> float:
    """Return the median FLOP per second (a multiply-add counts 2) of products of square random matrices.

    Args:
        device: device to measure.
        dtype: dtype of the matrices.
        size: rows and columns; None for 8192 on a GPU and 2048 on a CPU.
        rounds: timed rounds, after two untimed ones; a round is one product on a CPU and a hundred on a GPU, which
            slows down under steady load.
    """
    on_gpu = device.type == "cuda"
    size, products = size or (8192 if on_gpu else 2048), 100 if on_gpu else 1
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(left)

    def multiply() -> None:
        for _ in range(products):
            torch.mm(left, right, out=out)

    durations = [time_call(multiply, device) for _ in range(2 + rounds)][2:]
    if on_gpu:
        del left, right, out
        torch.cuda.empty_cache()
    return 2 * products * size**3 / statistics.median(durations)


def reset_peak(device: torch.device) -> int:
    """Reset the peak of memory on Linux and on GPUs; return the bytes in use."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    return peak_bytes(device)


def peak_bytes(device: torch.device) -> int:
    """Return the peak of memory since ``reset_peak``: torch's on a GPU; else the process's, including libraries."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform.startswith("linux"):  # psutil does not report a peak
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
