"""One way to run the training step on a made batch, with what it took."""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from conmim_lightning.batches import PretrainBatch
from conmim_lightning.speed.device import forget_peak, peak_bytes, seconds
from conmim_lightning.speed.ours import PARTS, OurStep
from conmim_lightning.speed.plain import PlainStep
from conmim_lightning.speed.split import split

WAYS = ("plain", "ours", "compiled")
"""The official step written out; ours, compiled if the configuration says so; ours through ``torch.compile``."""

_EARLY = 0.1  # of the peak rate, as in the warm-up: at the peak, AdamW's first steps would magnify mere rounding
_TOGETHER = {"cuda": 5}  # steps without waiting for the device between them, as in training; elsewhere one


class Runner:
    """Takes steps and tells how long they were.

    Args:
        make: makes the task, a ``PretrainTask``.
        batch: made images.
        device: to run on.
        way: of ``WAYS``.
        precision: a key of ``speed.ours.DTYPES``.
        clip_norm: of all gradients together; None for no clipping.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        batch: PretrainBatch,
        device: torch.device,
        *,
        way: str,
        precision: str,
        clip_norm: float | None,
    ) -> None:
        self._before = forget_peak(device)
        self.device = device
        task = make().to(device)
        self.perturbation = task.perturbation
        self.crop, self.rows, self.mask = (part.to(device) for part in batch[:3])
        self.model, size = task.model, len(batch.crop)
        if way == "plain":
            self.optimizer, temperature = task.make_optimizer(size), task.loss.temperature
            plain = PlainStep(
                task.model, self.optimizer, temperature=temperature, clip_norm=clip_norm, precision=precision
            )
            self._step: Callable[..., object] = lambda mark: plain(self.views, self.mask, 0.996)
        else:
            compiled = way == "compiled" or task.compile_at_start
            ours = OurStep(task, batch_size=size, clip_norm=clip_norm, precision=precision, compiled=compiled)
            self.optimizer = ours.optimizer
            self._step = lambda mark: ours(self.views, self.mask, 0.996, mark, batch.most_hidden)
        for group in self.optimizer.param_groups:
            group["lr"] *= _EARLY
        self.views = self.perturbation(self.crop, self.rows)
        self._begun = False

    def steps(self, count: int) -> dict[str, list[float]]:
        """Seconds of each of some steps, and of the perturbation that stands before each; on a GPU means of five.

        And the "loss" of each, of the last of five; all ways train on the same views from the same weights.
        """
        found: dict[str, list[float]] = {"perturbation": [], "step": [], "loss": []}
        losses: list[Any] = []
        for _ in range(count):
            found["perturbation"].append(self._timed(lambda: self.perturbation(self.crop, self.rows)))
            found["step"].append(self._timed(lambda: losses.append(self._step(lambda part: None))))
            found["loss"].append(float(losses[-1]))
        if not self._begun and self.device.type == "cuda":
            forget_peak(self.device)  # compiling, in the first steps, takes memory of its own
        self._begun = True
        return found

    def _timed(self, call: Callable[[], object]) -> float:
        together = _TOGETHER.get(self.device.type, 1)
        return seconds(lambda: [call() for _ in range(together)], self.device) / together

    def parts(self, count: int) -> dict[str, float]:
        """Median seconds of each part of our step; waiting for the device after each makes the sum larger."""
        return split(self._step, PARTS, self.device, count)

    def peak(self) -> int:
        """Most bytes that model, optimizer and steps took at once, libraries left out; on a GPU after the first."""
        return peak_bytes(self.device) - self._before

    def held(self) -> dict[str, int]:
        """Bytes of weights (the teacher's too), of gradients and of the optimizer's averages."""
        student = sum(parameter.nbytes for parameter in self.model.student.parameters())
        state = [value for values in self.optimizer.state.values() for value in values.values()]
        return {
            "weights": sum(tensor.nbytes for tensor in self.model.state_dict().values()),
            "gradients": student,
            "optimizer": sum(value.nbytes for value in state if isinstance(value, torch.Tensor)),
        }

    def saved(self, folder: str) -> dict[str, float]:
        """Write what a checkpoint holds into a folder and remove it again: "bytes" and "seconds"."""
        content = {"state_dict": self.model.state_dict(), "optimizer_states": [self.optimizer.state_dict()]}
        with tempfile.TemporaryDirectory(dir=folder) as place:
            path, started = Path(place, "checkpoint.ckpt"), time.perf_counter()
            with path.open("wb") as file:
                torch.save(content, file)
                os.fsync(file.fileno())
            return {"bytes": path.stat().st_size, "seconds": time.perf_counter() - started}
