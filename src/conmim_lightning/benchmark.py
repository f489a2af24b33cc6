"""Time the training step: ``python -m conmim_lightning.benchmark experiment=vit_s_pretrain benchmark.batch_size=8``.

Or what happens to images before it: ``python -m conmim_lightning.benchmark benchmark=data``, and how that grows with
the collection: ``benchmark=growth``.

Made batches, the whole step (perturbation, student, teacher, loss, backward, clipping, optimizer, teacher update), one
device, medians. What is timed is the task's own model, loss and optimizer, outside the Trainer.
"""

import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from conmim_lightning.config import CONF_DIR, check
from conmim_lightning.messages import quiet_libraries, told_plainly
from conmim_lightning.resolvers import register_resolvers


def measure(plain: dict[str, Any], precision: str, compiled: bool) -> dict[str, float]:
    """Median images a second, seconds a step, and peak memory in GiB of one way to run the step.

    Args:
        plain: checked configuration.
        precision: "32-true" or "bf16-mixed".
        compiled: put student and teacher through ``torch.compile``.
    """
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    step = _make_step(plain, device, precision, compiled)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    warmup, steps = plain["benchmark"]["warmup"], plain["benchmark"]["steps"]
    median = statistics.median([_timed(step) for _ in range(warmup + steps)][warmup:])
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated()
    else:  # of the process so far, so the first precision named is the one to read
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    batch_size = plain["benchmark"]["batch_size"]
    return {"images_per_second": batch_size / median, "seconds_per_step": median, "peak_gib": memory / 2**30}


def _make_step(plain: dict[str, Any], device: Any, precision: str, compiled: bool) -> Callable[[], None]:
    """One whole training step on a made batch, as a function without arguments."""
    import torch
    from hydra.utils import instantiate

    task = instantiate(plain["task"]).to(device)
    batch_size = plain["benchmark"]["batch_size"]
    crop, rows, mask = (part.to(device) for part in _made_batch(plain, batch_size))
    optimizer = task.make_optimizer(batch_size)
    student, teacher = task.model.student, task.model.teacher.branch
    if compiled:
        student, teacher = torch.compile(student), torch.compile(teacher)
    clip = plain["schedule"]["clip_norm"] or torch.inf

    def step() -> None:
        student_view, teacher_view = task.perturbation(crop, rows)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
            queries = student(student_view, mask)
            with torch.no_grad():
                keys = teacher(teacher_view)
        task.loss(queries, keys, mask).backward()
        torch.nn.utils.clip_grad_norm_(task.model.student.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad()
        task.model.teacher.update(task.model.student, 0.996)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def _timed(step: Callable[[], None]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def _made_batch(plain: dict[str, Any], batch_size: int) -> tuple[Any, Any, Any]:
    """Random pixels, and rows and masks as the configuration draws them."""
    import torch
    from hydra.utils import instantiate

    from conmim_lightning.randomness import generator

    masking, draw = instantiate(plain["masking"]), instantiate(plain["perturbation"])
    size, channels = plain["backbone"]["img_size"], plain["backbone"]["in_chans"]
    random = generator(plain["seed"], 0, 0)
    crop = torch.randint(0, 256, (batch_size, channels, size, size), dtype=torch.uint8, generator=random)
    rows = torch.stack([draw(random) for _ in range(batch_size)])
    return crop, rows, torch.stack([masking(random) for _ in range(batch_size)])


@hydra.main(version_base="1.3", config_path=CONF_DIR, config_name="benchmark")
def main(cfg: DictConfig) -> None:
    """Time what the configuration names and print a table."""
    plain = check(cfg)
    quiet_libraries()
    if "images" in plain["benchmark"]:
        time_images(plain)
    else:
        time_steps(plain)


def time_images(plain: dict[str, Any]) -> None:
    """Time decoders, sources and loaders."""
    from hydra.utils import instantiate

    benchmark = instantiate(plain["benchmark"]["images"])
    found = benchmark.run()
    print(f"{platform.processor() or platform.machine()}, one thread a process")
    print(benchmark.told(found))
    path = Path(plain["paths"]["run_dir"], "benchmark.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1))
    print(os.path.relpath(path))


def time_steps(plain: dict[str, Any]) -> None:
    """Time the training step in every combination that the configuration names."""
    import torch

    if unknown := set(plain["benchmark"]["precisions"]) - {"32-true", "bf16-mixed"}:
        raise ValueError(f"benchmark.precisions must be of 32-true and bf16-mixed, got {sorted(unknown)}")
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, torch {torch.__version__}, batch {plain['benchmark']['batch_size']}")
    print(f"{'precision':<12}{'compiled':<10}{'images/s':>10}{'ms a step':>11}{'peak GiB':>10}")
    for compiled in plain["benchmark"]["compile"]:
        for precision in plain["benchmark"]["precisions"]:
            found = measure(plain, precision, compiled)
            print(
                f"{precision:<12}{'yes' if compiled else 'no':<10}{found['images_per_second']:>10.2f}"
                f"{1000 * found['seconds_per_step']:>11.1f}{found['peak_gib']:>10.2f}"
            )


if __name__ == "__main__":
    register_resolvers()
    with told_plainly():
        main()
