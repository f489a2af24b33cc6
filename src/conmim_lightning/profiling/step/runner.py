"""Time and memory of one variant of the training step on a synthetic batch."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from conmim_lightning.batches import PretrainBatch
from conmim_lightning.losses.patch_info_nce import PatchInfoNCE
from conmim_lightning.profiling.device import peak_bytes, reset_peak, synchronize, time_call
from conmim_lightning.profiling.step.reference import ReferenceStep
from conmim_lightning.profiling.step.train_step import PHASES, TrainStep
from conmim_lightning.tasks.pretrain import PretrainTask

_LR_FACTOR = 0.1  # as in the warm-up: AdamW's first steps at the peak learning rate would amplify rounding errors
_MOMENTUM = 0.996
_STEPS_TOGETHER = {"cuda": 5}  # steps between two synchronisations, as in training; elsewhere one


class Runner:
    """Run training steps of one variant and time them.

    Args:
        make: function that builds the task.
        batch: batch of every step.
        device: device to run on.
        variant: one of ``profiling.step.variants.VARIANTS``.
        precision: a key of ``profiling.step.train_step.DTYPES``.

    Raises:
        ValueError: the reference step does not support the task's loss or backbone.
    """

    def __init__(
        self,
        make: Callable[[], PretrainTask],
        batch: PretrainBatch,
        device: torch.device,
        *,
        variant: str,
        precision: str,
    ) -> None:
        self._before = reset_peak(device)
        self.device = device
        task = make().to(device)
        self.perturbation = task.perturbation
        self.crop, self.indices, self.mask = (tensor.to(device) for tensor in batch[:3])
        self.model, size = task.model, len(batch.crop)
        self._step: Callable[[Callable[[str], None]], object]
        if variant == "reference":
            if not isinstance(task.loss, PatchInfoNCE):
                raise ValueError(f"the reference step has no {type(task.loss).__name__}; set benchmark.variants=[ours]")
            self.optimizer = task.make_optimizer(size)
            reference = ReferenceStep(
                task.model,
                self.optimizer,
                temperature=task.loss.temperature,
                max_grad_norm=task.schedule.max_grad_norm,
                precision=precision,
            )
            self._step = lambda mark: reference(self.views, self.mask, _MOMENTUM)
        else:
            compiled = variant == "compiled" or task.compiles
            ours = TrainStep(task, batch_size=size, precision=precision, compiled=compiled)
            self.optimizer = ours.optimizer
            self._step = lambda mark: ours(self.views, self.mask, _MOMENTUM, mark, batch.max_hidden)
        for group in self.optimizer.param_groups:
            group["lr"] *= _LR_FACTOR
        self.views = self.perturbation(self.crop, self.indices)
        self._started = False

    def steps(self, count: int) -> dict[str, list[float]]:
        """Return seconds of each "step" and its "perturbation", on a GPU means of five steps; and the "loss" of each.

        All variants train on the same views from the same weights.
        """
        results: dict[str, list[float]] = {"perturbation": [], "step": [], "loss": []}
        losses: list[object] = []
        for _ in range(count):
            results["perturbation"].append(self._time(lambda: self.perturbation(self.crop, self.indices)))
            results["step"].append(self._time(lambda: losses.append(self._step(lambda phase: None))))
            results["loss"].append(float(losses[-1]))  # type: ignore[arg-type]
        if not self._started and self.device.type == "cuda":
            reset_peak(self.device)  # compilation, in the first steps, needs memory of its own
        self._started = True
        return results

    def phases(self, count: int) -> dict[str, float]:
        """Return median seconds per phase of our step; synchronisation after each makes their sum exceed the step."""
        durations: dict[str, list[float]] = {phase: [] for phase in PHASES}
        for _ in range(count):
            synchronize(self.device)
            last = [time.perf_counter()]

            def mark(phase: str, last: list[float] = last) -> None:
                synchronize(self.device)
                now = time.perf_counter()
                durations[phase].append(now - last[0])
                last[0] = now

            self._step(mark)
        return {phase: statistics.median(values) for phase, values in durations.items()}

    def peak(self) -> int:
        """Return the peak bytes of model, optimizer and steps, without libraries; on a GPU, after the first steps."""
        return peak_bytes(self.device) - self._before

    def memory_by_kind(self) -> dict[str, int]:
        """Return the bytes of weights (teacher included), gradients and optimizer state."""
        states = [value for state in self.optimizer.state.values() for value in state.values()]
        return {
            "weights": sum(tensor.nbytes for tensor in self.model.state_dict().values()),
            "gradients": sum(parameter.nbytes for parameter in self.model.student.parameters()),
            "optimizer": sum(value.nbytes for value in states if isinstance(value, Tensor)),
        }

    def time_checkpoint(self, folder: str) -> dict[str, float]:
        """Write a checkpoint's content to a folder and remove it; return its "bytes" and "seconds"."""
        content = {"state_dict": self.model.state_dict(), "optimizer_states": [self.optimizer.state_dict()]}
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            path, started = Path(temporary, "checkpoint.ckpt"), time.perf_counter()
            with path.open("wb") as file:
                torch.save(content, file)
                os.fsync(file.fileno())
            return {"bytes": path.stat().st_size, "seconds": time.perf_counter() - started}

    def _time(self, call: Callable[[], object]) -> float:
        together = _STEPS_TOGETHER.get(self.device.type, 1)
        return time_call(lambda: [call() for _ in range(together)], self.device) / together
