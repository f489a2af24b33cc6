"""Benchmark of the training step, the data loader and training with the Trainer."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from conmim_lightning.data.checks import check_at_least
from conmim_lightning.profiling.batch_size import scan_batch_sizes
from conmim_lightning.profiling.build import (
    Config,
    build_data,
    build_runner,
    build_task,
    check_pretraining,
    compose_changed,
    measure_loader,
    measure_training,
    synthetic_batch,
)
from conmim_lightning.profiling.device import describe_device, matmul_rate, memory_limit, training_device
from conmim_lightning.profiling.flops import count_flops
from conmim_lightning.profiling.plot import draw
from conmim_lightning.profiling.step.attention import attention_shape, time_attention
from conmim_lightning.profiling.step.train_step import DTYPES
from conmim_lightning.profiling.step.variants import departures, interleave, last_of_ours, variant_pairs
from conmim_lightning.profiling.table import format_comparison, format_table
from conmim_lightning.profiling.worker import Worker
from conmim_lightning.runtime.results import Result, Save, read_json

STAGES = ("step", "attention", "data", "run", "batch_sizes")
"""Training step; attention implementations; loader without training; training with the Trainer; step by batch size."""


class StepBenchmark:
    """Time pre-training on one device, outside and inside the Trainer, and compare it with the reference step.

    Each variant runs in a separate process. On a CPU, their steps alternate, so that background load affects all
    variants equally; on a GPU, they run one after the other, and a failure of one does not stop the others.

    Args:
        stages: names from ``STAGES``.
        batch_size: images per step, >= 2.
        warmup: steps not counted, >= 0.
        steps: steps counted, >= 1; in the stages data and run, groups of batches.
        precisions: keys of ``profiling.step.train_step.DTYPES``; the stage run uses the last one.
        variants: from ``profiling.step.variants.VARIANTS``, optionally with a precision: "reference 16-mixed"; run and
            batch_sizes use the last one that is not the reference.
        memory: GiB for the stage batch_sizes, >= 0.01; null uses nine tenths of the free memory.
        baseline: benchmark.json of an earlier run, or overrides of another configuration, to compare with.
        photos: root and prepare of the data module if the configuration names no image folder.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        *,
        photos: Mapping[str, object],
        stages: Sequence[str] = ("step",),
        batch_size: int = 8,
        warmup: int = 3,
        steps: int = 10,
        precisions: Sequence[str] = ("32-true",),
        variants: Sequence[str] = ("reference", "ours"),
        memory: float | None = None,
        baseline: str | None = None,
    ) -> None:
        check_at_least(2, batch_size=batch_size)
        check_at_least(1, steps=steps)
        check_at_least(0, warmup=warmup)
        if memory is not None and not memory >= 0.01:
            raise ValueError(f"benchmark.memory must be at least 0.01 GiB, or null, got {memory}")
        self.precisions = list(dict.fromkeys(precisions))
        self.variants = list(variants)
        self.pairs = variant_pairs(self.variants, self.precisions)
        if not stages or set(stages) - set(STAGES) or not self.pairs:
            raise ValueError(f"benchmark needs variants, precisions, and stages of {', '.join(STAGES)}, got {stages}")
        self.photos = photos
        self.stages = list(stages)
        self.batch_size = batch_size
        self.warmup = warmup
        self.steps = steps
        self.memory = memory
        self.baseline = baseline

    def run(self, config: Config, save: Save) -> Result:
        """Measure all stages.

        Args:
            config: checked configuration.
            save: function that receives the results so far after each stage, so that a later failure loses nothing.

        Returns:
            device, torch, batch_size, flops_per_image, departures, matmul_rates (FLOP per second by precision),
            variants (by name, see ``interleave``), errors (by name); attention, data, run and batch_sizes, if measured;
            baseline (results to compare with).

        Raises:
            ValueError: the configuration is not of pre-training, or a precision needs a GPU.
        """
        check_pretraining(config, "benchmark")
        device = training_device(config["trainer"]["accelerator"])
        if device.type == "cpu" and any(precision == "16-mixed" for _, precision in self.pairs):
            raise ValueError(
                "benchmark.precisions and variants may have 16-mixed on a GPU only: on a CPU, a step takes minutes"
            )
        is_configuration = self.baseline is not None and "=" in self.baseline
        baseline = compose_changed(self.baseline.split()) if self.baseline and is_configuration else None
        saved = read_json(self.baseline, "variants") if self.baseline and not is_configuration else None
        result = self._describe(config, device)
        dtypes = {precision: DTYPES[precision] or torch.float32 for precision in self._all_precisions()}
        result["matmul_rates"] = {precision: matmul_rate(device, dtype) for precision, dtype in dtypes.items()}
        stages: dict[str, Callable[[], object]] = {
            "step": lambda: self._time_variants(result, config, baseline, device, save),
            "attention": lambda: result.update(attention=self._time_attention(config, device)),
            "data": lambda: result.update(data=self._measure_data(config)),
            "run": lambda: result.update(run=self._measure_run(config)),
            "batch_sizes": lambda: result.update(batch_sizes=self._scan(config, device)),
        }
        for stage in STAGES:
            if stage in self.stages:
                stages[stage]()
                save(result)
        for precision, dtype in dtypes.items():  # measured again, since other work may have slowed the device
            result["matmul_rates"][precision] = max(result["matmul_rates"][precision], matmul_rate(device, dtype))
        return result | ({"baseline": saved} if saved else {})

    def format(self, result: Result) -> str:
        """Format the results as a table."""
        text = format_table(result)
        return f"{text}\n{format_comparison(result, result['baseline'])}" if "baseline" in result else text

    def draw(self, result: Result, path: Path) -> None:
        """Write a figure of the results to a PNG."""
        draw(result, path)

    def _all_precisions(self) -> list[str]:
        used = {*self.precisions, *(precision for _, precision in self.pairs)}
        return [precision for precision in DTYPES if precision in used]

    def _describe(self, config: Config, device: torch.device) -> Result:
        return {
            "device": describe_device(device),
            "torch": torch.__version__,
            "batch_size": self.batch_size,
            "flops_per_image": sum(count_flops(build_task(config), synthetic_batch(config, 2)).values()) / 2,
            "departures": departures(config),
            "variants": {},
        }

    def _time_variants(
        self,
        result: Result,
        config: Config,
        baseline: Config | None,
        device: torch.device,
        save: Save,
    ) -> None:
        """Add the timed variants of the configuration, and of the baseline if there is one, to the result."""
        makers, other = self._makers(config, self.batch_size), dict[str, object]()
        if baseline is not None:
            size = baseline["benchmark"]["batch_size"]
            makers |= {
                f"baseline {name}": make
                for name, make in self._makers(baseline, size).items()
                if not name.startswith("reference")
            }
            result["baseline"] = {"batch_size": size, "name": self.baseline, "variants": other}
        groups = [makers] if device.type == "cpu" else [{name: make} for name, make in makers.items()]
        for group in groups:  # a GPU's memory may hold only one at a time
            try:
                timed = interleave(group, warmup=self.warmup, steps=self.steps)
            except RuntimeError as error:
                if device.type == "cpu":
                    raise
                message = str(error) or type(error).__name__
                result.setdefault("errors", {})[next(iter(group))] = message.splitlines()[0]
                continue
            for name, values in timed.items():
                target = other if name.startswith("baseline ") else result["variants"]
                target[name.removeprefix("baseline ")] = values
            save(result)

    def _makers(self, config: Config, batch_size: int) -> dict[str, Callable[[], Worker]]:
        """Return, by variant and precision, a function that starts its worker."""
        return {
            f"{variant} {precision}": partial(
                Worker, f"{variant} {precision}", build_runner, config, variant, precision, batch_size
            )
            for variant, precision in self.pairs
        }

    def _time_attention(self, config: Config, device: torch.device) -> Result:
        shape = attention_shape(build_task(config).model.student.encoder)
        return {
            precision: time_attention(device, DTYPES[precision], batch_size=self.batch_size, **shape)
            for precision in self.precisions
        }

    def _measure_data(self, config: Config) -> Result:
        data = build_data(config, self.batch_size, self.photos)
        return measure_loader(data, warmup=self.warmup, groups=self.steps)

    def _measure_run(self, config: Config) -> Result:
        return measure_training(
            config,
            build_data(config, self.batch_size, self.photos),
            variant=last_of_ours(self.variants),
            precision=self.precisions[-1],
            warmup=self.warmup,
            groups=self.steps,
        )

    def _scan(self, config: Config, device: torch.device) -> Result:
        """Measure throughput and memory by batch size, for each precision."""
        limit, variant = memory_limit(device, self.memory), last_of_ours(self.variants)

        def make(precision: str, size: int) -> Worker:
            name = f"{variant} {precision}, batch size {size}"
            return Worker(name, build_runner, config, variant, precision, size)

        return {
            precision: scan_batch_sizes(
                partial(make, precision), self.batch_size, limit, warmup=self.warmup, steps=self.steps
            )
            for precision in self.precisions
        }
