"""Base class of the tasks that learn from annotations."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from conmim_lightning.models.backbones import Backbone
from conmim_lightning.optim.non_finite import NonFiniteError
from conmim_lightning.tasks.checks import warn_normalization
from conmim_lightning.tasks.scheduled import ScheduledTask
from conmim_lightning.weights.state_diff import check_checkpoint


class SupervisedTask(ScheduledTask):
    """Clipping, class names, metrics per split and checkpoint hooks, in addition to ``ScheduledTask``.

    A subclass implements ``timm_model``, ``param_groups``, ``training_step``, ``evaluate`` and ``check_shapes``.

    Args:
        normalize: module that converts uint8 images to the model's input, on the training device.
        num_classes: number of classes, K.
        metrics: factory of the metrics of one split, an ``nn.Module`` with ``compute`` and ``reset``.
        **others: see ``ScheduledTask``.
    """

    def __init__(self, *, normalize: nn.Module, num_classes: int, metrics: Callable[[], nn.Module], **others: Any):
        super().__init__(**others)
        self.normalize, self.num_classes = normalize, num_classes
        self.metrics = nn.ModuleDict({split: metrics() for split in ("val", "test")})
        self.classes: list[str] = []

    @property
    def timm_model(self) -> Backbone:
        """The backbone as timm built it."""
        raise NotImplementedError

    def evaluate(self, batch: Any, metrics: Any) -> dict[str, Any]:
        """Predict a batch and add it to the metrics of its split; return the same as ``predict_step``."""
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        """Read the class names from the data module."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        self.classes = list(getattr(data, "classes", None) or self.classes)
        if stage == "fit":
            warn_normalization(self.timm_model, data)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalise the images on the training device."""
        return batch._replace(image=self.normalize(batch.image))

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the global gradient norm, log the norm, and raise NonFiniteError if it is not finite."""
        limit = gradient_clip_val or self.schedule.max_grad_norm or torch.inf
        norm = nn.utils.clip_grad_norm_(self.parameters(), limit)
        self.log("optim/grad_norm", norm)
        if getattr(self.trainer.precision_plugin, "scaler", None) is None and not torch.isfinite(norm):
            raise NonFiniteError(f"gradient norm {norm} at step {self.global_step} in epoch {self.current_epoch}")

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Run the optimizer step and log its largest learning rate."""
        super().optimizer_step(*args, **kwargs)
        self.log("optim/lr", max(group["lr"] for group in self.trainer.optimizers[0].param_groups))

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Any] | None:
        """Evaluate a validation batch; see ``evaluate``."""
        return self.evaluate(batch, self.metrics["val"])

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics, but not of the sanity check."""
        self._log_metrics("val")

    def test_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Evaluate a test batch; see ``evaluate``."""
        return self.evaluate(batch, self.metrics["test"])

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self._log_metrics("test")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the class names."""
        checkpoint["classes"] = self.classes

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the class names; raise ValueError for a checkpoint of another architecture."""
        self.classes = checkpoint.get("classes", [])
        check_checkpoint(self.state_dict(), checkpoint)

    def _log_metrics(self, split: str) -> None:
        metrics: Any = self.metrics[split]
        if not self.trainer.sanity_checking:
            self.log_dict({f"{split}/{name}": value for name, value in metrics.compute().items()})
        metrics.reset()
