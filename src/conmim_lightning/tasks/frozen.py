"""Classifiers fitted to frozen features that are computed once, as a LightningModule."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from lightning import LightningModule
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn
from torchmetrics.utilities.distributed import gather_all_tensors
from tqdm import tqdm

from conmim_lightning.batches import LabelledBatch
from conmim_lightning.metrics.classification import Judge
from conmim_lightning.models.features import FrozenFeatures
from conmim_lightning.probes.rows import Rows
from conmim_lightning.tasks.labels import check_labelled, warn_of_normalisation
from conmim_lightning.weights.mismatch import check_checkpoint


class FrozenTask(LightningModule):
    """Computes the features of the training images once, fits probes to them, and tests these.

    It has no training steps: probes are fitted as the test begins, unless they came with a checkpoint. Several devices
    compute a share of the features each and then all fit the same probes. Predictions, and "test/top1" beside each
    probe's own, are those of the probe that did best on held-out images, or of the middle k of a k-NN alone.

    Shapes: B images, K classes, N training images.

    Args:
        model: timm vision Transformer without classifier and with its final norm; it is not trained.
        normalize: uint8 images to what the model takes, on the training device.
        num_classes: K, >= 2.
        probes: factories by name, such as ``KNNProbe``; each takes ``num_classes`` and the features' ``widths``.
        features: ways to read features, see ``FrozenFeatures``.
        views: random crops (as training's) of each training image whose features the probes are fitted to; 0 takes the
            image as it is evaluated.
        folder: where features lie meanwhile, 2 bytes a number; null takes the system's folder for such files.

    Raises:
        ValueError: there is no probe, or one refuses its numbers.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        normalize: nn.Module,
        num_classes: int,
        probes: Mapping[str, Any],
        features: Sequence[str],
        views: int = 0,
        folder: str | None = None,
    ) -> None:
        super().__init__()
        if views < 0:
            raise ValueError(f"views must be at least 0, got {views}")
        if not probes:
            raise ValueError("there must be at least one probe, such as task.probes.knn")
        self.features = FrozenFeatures(model, features)
        widths = self.features.widths
        self.probes = nn.ModuleDict(
            {name: make(num_classes=num_classes, widths=widths) for name, make in probes.items()}
        )
        self.variants = {
            f"{name}_{variant}".rstrip("_"): (name, variant)
            for name, probe in self.probes.items()
            for variant in cast(Any, probe).variants
        }
        names = list(self.variants)
        self.chosen = names[len(names) // 2]  # of one k-NN the middle k; fitted probes are chosen on held-out images
        self.normalize = normalize
        self.num_classes = num_classes
        self.views = views
        self.folder = folder
        self.classes: list[str] = []
        self.fitted = False
        self.judge = Judge(num_classes, list(self.variants))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, C, H, W) normalised images to (B, K) scores by "probe" or "probe_variant"."""
        features = self.features(images)
        with torch.autocast(images.device.type, enabled=False):  # cosines that lie close together need all digits
            found = {name: probe(features) for name, probe in self.probes.items()}
        return {key: found[name][variant] for key, (name, variant) in self.variants.items()}

    def backbone(self, branch: str) -> nn.Module:
        """The frozen timm model; there is one only."""
        return self.features.backbone

    def setup(self, stage: str) -> None:
        """Take the classes' names from the data."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        self.classes = list(data.classes or self.classes)
        if stage == "test" and not self.fitted:
            warn_of_normalisation(self.features.backbone, data)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Normalise on the training device."""
        return batch._replace(image=self.normalize(batch.image))

    @torch.inference_mode(False)  # a test runs without gradients, fitting needs them
    def on_test_start(self) -> None:
        """Fit the probes, unless they came with a checkpoint."""
        if self.fitted:
            return
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        views = range(self.views) if self.views else [None]
        train = self._rows([data.evaluation("train", view) for view in views], "train")
        selection = self._rows([data.evaluation("val")], "held out") if data.held_out_share else None
        shares: dict[str, float] = {}
        for name, probe in self.probes.items():
            found = cast(Any, probe).fit(train, selection, self.device)
            told = "".join(f"; {key} {value:.4f}" for key, value in found.items())
            rank_zero_info(f"{name}: fitted to {len(train)} images{told}")
            if "selection_top1" in found:
                shares[name] = found["selection_top1"]
        self.chosen = max(shares, key=lambda name: shares[name]) if shares else self.chosen
        rank_zero_info(f"predictions and test/top1 are those of {self.chosen}")
        self.fitted = True

    def test_step(self, batch: LabelledBatch, batch_idx: int) -> dict[str, Tensor]:
        """Count right answers; see ``predict_step`` for what is returned."""
        found = self(batch.image)
        for key, scores in found.items():
            self.judge.update(key, scores, batch.label, batch.broken)
        return {"scores": found[self.chosen], "label": batch.label, "index": batch.index}

    def on_test_epoch_end(self) -> None:
        """Log what was counted, for each probe."""
        for key in self.variants:
            figures = self.judge.figures(key)
            self.log_dict({f"test/{name.replace('/', '_')}": value for name, value in figures.items()})
            if key == self.chosen:
                self.log_dict({name.replace(f"{key}/", "test/"): value for name, value in figures.items()})

    def predict_step(self, batch: LabelledBatch, batch_idx: int) -> dict[str, Tensor]:
        """Of a batch: "scores" (B, K) of the chosen probe, "label" (B,), -1 for none, "index" (B,) of the images."""
        scores = self(batch.image)[self.chosen]
        return {"scores": scores, "label": batch.label, "index": batch.index}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the classes' names."""
        checkpoint["classes"], checkpoint["fitted"] = self.classes, self.fitted
        checkpoint["chosen"] = self.chosen

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another architecture before anything is loaded."""
        self.classes, self.fitted = checkpoint.get("classes", []), checkpoint.get("fitted", False)
        self.chosen = checkpoint.get("chosen", self.chosen)
        check_checkpoint(self.state_dict(), checkpoint)

    def configure_optimizers(self) -> None:
        """There is nothing to optimise."""

    def make_optimizer(self, effective_batch: int) -> None:
        """There is nothing to optimise."""

    def check_shapes(self, image: tuple[int, ...], scores: tuple[int, ...]) -> None:
        """Raise ValueError for images (C, H, W) or classes (K,) of other data than the model was made for."""
        check_labelled(self.features.backbone, image, scores, self.num_classes)

    def _rows(self, loaders: Sequence[Any], part: str) -> Rows:
        """Features of all images of a part, those that other devices computed included; once for each loader."""
        broken: list[str] = []
        rows = Rows(sum(len(loader.dataset) for loader in loaders), self.features.widths, self.folder)
        for loader in loaders:
            rounds = int(self._everyones(torch.tensor([len(loader)], device=self.device)).max())
            batches = iter(loader)
            for _ in tqdm(range(rounds), desc=f"features, {part}", disable=self.global_rank > 0, leave=False):
                batch = next(batches, None)
                broken += [line for line in batch.broken if line] if batch else []
                features, labels = self._encoded(batch)
                rows.add({way: self._everyones(values) for way, values in features.items()}, self._everyones(labels))
        if broken:
            some = "; ".join(broken[:3]).replace("\t", ": ")
            rank_zero_warn(f"{len(broken)} images of part {part!r} cannot be read, such as {some}")
        if not len(rows):
            raise ValueError(f"none of the images of part {part!r} can be read, or none has a class")
        return rows

    def _encoded(self, batch: LabelledBatch | None) -> tuple[dict[str, Tensor], Tensor]:
        """Features by way and classes of a batch; of none where this device has no more."""
        if batch is None:
            empty = {way: torch.zeros(0, width, device=self.device) for way, width in self.features.widths.items()}
            return empty, torch.zeros(0, dtype=torch.long, device=self.device)
        with self.trainer.precision_plugin.forward_context():
            features = self.features(self.normalize(batch.image.to(self.device)))
        return features, batch.label.to(self.device)

    def _everyones(self, rows: Tensor) -> Tensor:
        """Rows of all devices, those of the first one first."""
        return torch.cat(gather_all_tensors(rows)) if self.trainer.world_size > 1 else rows
