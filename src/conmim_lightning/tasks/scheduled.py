"""Base class of the tasks with an optimizer: optimizer, schedule and seeding."""

from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from torch.optim import Optimizer

from conmim_lightning.optim.build import OptimizerFactory
from conmim_lightning.optim.param_groups import ParamGroups
from conmim_lightning.optim.recipe import Schedule
from conmim_lightning.rng import stream_seed


class ScheduledTask(LightningModule):
    """A task whose optimizer follows a ``Schedule``; a subclass implements ``param_groups`` and ``check_shapes``.

    Args:
        optimizer: factory that takes parameter groups; it holds the peak learning rate and the weight decay.
        schedule: length, warm-up and learning rate of the run.
        batch_size: images per step and device; null uses the data module's batch size.
        seed: seed of all random operations in a training step.
    """

    def __init__(
        self, *, optimizer: OptimizerFactory, schedule: Schedule, batch_size: int | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self.optimizer_factory = optimizer
        self.schedule = schedule
        self.batch_size = batch_size
        self.seed = seed
        self.step_seed = 0

    @property
    def schedule_step(self) -> float:
        """Position in the schedule: ``global_step``, shifted if the run was resumed with other steps per epoch."""
        return self.global_step + self._shift

    @property
    def planned_steps(self) -> int:
        """Number of optimizer steps after which the run ends."""
        return round(self.trainer.estimated_stepping_batches - self._shift)

    @property
    def _shift(self) -> float:
        configs = self.trainer.lr_scheduler_configs
        return getattr(configs[0].scheduler, "shift", 0.0) if configs else 0.0

    def param_groups(self) -> ParamGroups:
        """Return the parameter groups for the optimizer."""
        raise NotImplementedError

    def check_shapes(self, image: tuple[int, ...], target: tuple[int, ...], /) -> None:
        """Raise ValueError unless the model was built for images and targets of these shapes."""
        raise NotImplementedError

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed torch from seed, batch index and rank only, so that a resumed run continues exactly."""
        self.step_seed = stream_seed(self.seed, self.trainer.fit_loop.epoch_loop.total_batch_idx, self.global_rank)
        torch.manual_seed(self.step_seed >> 1)

    def make_optimizer(self, effective_batch: int) -> Optimizer:
        """Build the optimizer for a number of images per optimizer step."""
        return self.schedule.optimizer(self.optimizer_factory, self.param_groups(), effective_batch)

    def configure_optimizers(self) -> Any:
        """Build the optimizer and its learning rate schedule per optimizer step, and report them in one line.

        Raises:
            ValueError: the batch size is unknown, or the run has no end.
        """
        batch_size = self.batch_size or getattr(self.trainer.datamodule, "batch_size", None)  # type: ignore[attr-defined]
        if batch_size is None:
            raise ValueError("without a data module, the task needs a batch_size")
        optimizer = self.make_optimizer(self.schedule.effective_batch(batch_size, self.trainer))
        rank_zero_info(self.schedule.describe(optimizer, batch_size, self.trainer))
        scheduler = self.schedule.lr_scheduler(optimizer, batch_size, self.trainer, rank_zero_info)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
