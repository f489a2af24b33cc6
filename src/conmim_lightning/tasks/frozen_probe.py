"""Probes of frozen features that are computed once, as a LightningModule."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import torch
from lightning import LightningModule
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics.utilities.distributed import gather_all_tensors
from tqdm import tqdm

from conmim_lightning.batches import LabelledBatch
from conmim_lightning.metrics.classification import ClassificationMetrics
from conmim_lightning.models.backbones import Backbone
from conmim_lightning.models.features import FrozenFeatures
from conmim_lightning.probes.feature_store import Device, FeatureStore
from conmim_lightning.tasks.checks import check_classifier, warn_normalization
from conmim_lightning.weights.state_diff import check_checkpoint


class Probe(Protocol):
    """Interface of a classifier of frozen features, which is an ``nn.Module``.

    Attributes:
        variants: names of its sets of predictions, such as "k1" and "k20"; "" if there is only one.
    """

    variants: Sequence[str]

    def fit(self, train: FeatureStore, selection: FeatureStore | None, device: Device) -> Mapping[str, float]:
        """Fit to the training images; return values to report; "selection_top1" is the accuracy on held-out images."""
        ...

    def __call__(self, features: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Map features by name to (B, K) scores by variant."""
        ...


class ProbeFactory(Protocol):
    """Interface of a function that builds a probe."""

    def __call__(self, *, num_classes: int, widths: Mapping[str, int]) -> nn.Module:
        """Build a probe from K and the width of each feature."""
        ...


class FrozenTask(LightningModule):
    """Compute the features of the training images once, fit probes to them, and test the probes.

    There are no training steps: the probes are fitted when the test begins, unless a checkpoint contains them. Several
    devices share the computation of the features, and all fit the same probes. Predictions and "test/top1" are those
    of the probe with the best accuracy on held-out images, or of the middle k if a k-NN is the only probe; the metrics
    of each probe are logged as well.

    Shapes: B images, K classes, N training images.

    Args:
        model: timm vision Transformer without classifier and with its final norm; it is not trained.
        normalize: module that converts uint8 images to the model's input, on the training device.
        num_classes: K, >= 2.
        probes: factories of the probes by name, such as of ``KNNProbe``.
        features: names of features, see ``FrozenFeatures``.
        views: random training crops per training image that the probes are fitted to; 0 uses the evaluation crop.
        folder: folder for temporary files of features, 2 bytes per number; null for the system's temporary folder.

    Raises:
        ValueError: there is no probe, or one does not accept its arguments.
    """

    def __init__(
        self,
        *,
        model: Backbone,
        normalize: nn.Module,
        num_classes: int,
        probes: Mapping[str, ProbeFactory],
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
            for name, probe in self._probes().items()
            for variant in probe.variants
        }
        names = list(self.variants)
        self.best = names[len(names) // 2]  # middle k of a single k-NN; fitted probes are selected on held-out images
        self.normalize = normalize
        self.num_classes = num_classes
        self.views = views
        self.folder = folder
        self.classes: list[str] = []
        self.fitted = False
        self.held_out: dict[str, float] = {}
        self.metrics = nn.ModuleDict({f"of_{name}": ClassificationMetrics(num_classes) for name in names})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map normalised (B, C, H, W) images to (B, K) scores by "probe" or "probe_variant"."""
        features = self.features(images)
        with torch.autocast(images.device.type, enabled=False):  # similar cosines differ only in their last digits
            scores = {name: probe(features) for name, probe in self._probes().items()}
        return {key: scores[name][variant] for key, (name, variant) in self.variants.items()}

    def backbone(self, branch: str) -> Backbone:
        """Return the frozen timm model, for export; the branch has no effect."""
        return self.features.backbone

    def setup(self, stage: str) -> None:
        """Read the class names from the data module."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        self.classes = list(data.classes or self.classes)
        if stage == "test" and not self.fitted:
            warn_normalization(self.features.backbone, data)

    def on_after_batch_transfer(self, batch: LabelledBatch, dataloader_idx: int) -> LabelledBatch:
        """Normalise the images on the training device."""
        return batch._replace(image=self.normalize(batch.image))

    @torch.inference_mode(False)  # a test disables gradients, but fitting needs them
    def on_test_start(self) -> None:
        """Fit the probes, unless they were restored from a checkpoint."""
        if self.fitted:
            return
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        views = range(self.views) if self.views else [None]
        train = self._store([data.evaluation_dataloader("train", view) for view in views], "train")
        selection = self._store([data.evaluation_dataloader("val")], "held-out") if data.held_out_fraction else None
        accuracies: dict[str, float] = {}
        for name, probe in self._probes().items():
            values = probe.fit(train, selection, self.device)
            text = "".join(f"; {key} {value:.4f}" for key, value in values.items())
            rank_zero_info(f"{name}: fitted to {len(train)} images{text}")
            if "selection_top1" in values:
                accuracies[name] = values["selection_top1"]
        self.held_out = {f"val/{name}_top1": value for name, value in accuracies.items()}
        self.best = max(accuracies, key=lambda name: accuracies[name]) if accuracies else self.best
        rank_zero_info(f"predictions and test/top1 are those of {self.best}")
        self.fitted = True

    def test_step(self, batch: LabelledBatch, batch_idx: int) -> dict[str, Tensor]:
        """Evaluate all probes on a batch; see ``predict_step`` for the result."""
        by_name = self(batch.image)
        for name, scores in by_name.items():
            self._metrics(name).update(scores, batch.label, batch.broken)
        return {"scores": by_name[self.best], "label": batch.label, "index": batch.index}

    def on_test_epoch_end(self) -> None:
        """Log the metrics of each probe, those of the best as the test metrics, and accuracies on held-out images."""
        self.log_dict(self.held_out)
        for name in self.variants:
            metrics = self._metrics(name).compute()
            self._metrics(name).reset()
            self.log_dict({f"test/{name}_{key}": value for key, value in metrics.items()})
            if name == self.best:
                self.log_dict({f"test/{key}": value for key, value in metrics.items()})

    def predict_step(self, batch: LabelledBatch, batch_idx: int) -> dict[str, Tensor]:
        """Return "scores", (B, K), of the best probe; "label", (B,), -1 = no class; "index", (B,) of the images."""
        return {"scores": self(batch.image)[self.best], "label": batch.label, "index": batch.index}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the class names and whether the probes are fitted."""
        checkpoint |= {"classes": self.classes, "fitted": self.fitted, "best_probe": self.best}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore names and state; raise ValueError for a checkpoint of another architecture."""
        self.classes, self.fitted = checkpoint.get("classes", []), checkpoint.get("fitted", False)
        self.best = checkpoint.get("best_probe", self.best)
        check_checkpoint(self.state_dict(), checkpoint)

    def configure_optimizers(self) -> None:
        """Return None: there is nothing to optimise."""

    def make_optimizer(self, effective_batch: int) -> None:
        """Return None: there is nothing to optimise."""

    def check_shapes(self, image: tuple[int, ...], scores: tuple[int, ...]) -> None:
        """Raise ValueError unless the model was built for images of shape (C, H, W) and scores of shape (K,)."""
        check_classifier(self.features.backbone, image, scores, self.num_classes)

    def _probes(self) -> dict[str, Probe]:
        return cast(dict[str, Probe], dict(self.probes.items()))

    def _metrics(self, name: str) -> ClassificationMetrics:
        return cast(ClassificationMetrics, self.metrics[f"of_{name}"])

    def _store(self, loaders: Sequence[DataLoader[LabelledBatch]], split: str) -> FeatureStore:
        """Return the features of all images of a split, once per loader, gathered from all devices."""
        broken: list[str] = []
        size = sum(len(loader.dataset) for loader in loaders)  # type: ignore[arg-type]
        store = FeatureStore(size, self.features.widths, self.folder)
        for loader in loaders:
            rounds = int(self._gathered(torch.tensor([len(loader)], device=self.device)).max())
            batches = iter(loader)
            for _ in tqdm(range(rounds), desc=f"features, {split}", disable=self.global_rank > 0, leave=False):
                batch = next(batches, None)
                broken += [line for line in batch.broken if line] if batch else []
                features, labels = self._encode(batch)
                gathered = {name: self._gathered(values) for name, values in features.items()}
                store.add(gathered, self._gathered(labels))
        if broken:
            first = "; ".join(broken[:3]).replace("\t", ": ")
            rank_zero_warn(f"{len(broken)} images of split {split!r} cannot be read, such as {first}")
        if not len(store):
            raise ValueError(f"none of the images of split {split!r} can be read, or none has a class")
        return store

    def _encode(self, batch: LabelledBatch | None) -> tuple[dict[str, Tensor], Tensor]:
        """Return features by name and classes of a batch; empty if this device has no more batches."""
        if batch is None:
            empty = {name: torch.zeros(0, width, device=self.device) for name, width in self.features.widths.items()}
            return empty, torch.zeros(0, dtype=torch.long, device=self.device)
        with self.trainer.precision_plugin.forward_context():
            features = self.features(self.normalize(batch.image.to(self.device)))
        return features, batch.label.to(self.device)

    def _gathered(self, values: Tensor) -> Tensor:
        """Return the values of all devices, in the order of ranks."""
        return torch.cat(gather_all_tensors(values)) if self.trainer.world_size > 1 else values
