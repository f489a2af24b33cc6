"""Trained models in eval mode, with their preprocessing."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from conmim_lightning.data.sources.given import GivenImage
from conmim_lightning.inference.frozen import FrozenModule
from conmim_lightning.inference.preprocessing import Images, Preprocessing, as_list
from conmim_lightning.models.backbones import Backbone
from conmim_lightning.models.image_features import PATCHES, ImageFeatures, default_feature

_BATCH = 32  # images that are encoded at once


class ClassScores(NamedTuple):
    """Most probable classes of an image.

    Attributes:
        classes: names, the most probable first.
        scores: their probabilities; of a k-NN, its votes.
    """

    classes: list[str]
    scores: list[float]


class LoadedEncoder(FrozenModule):
    """A vision Transformer in eval mode, without gradients, with its preprocessing.

    Shapes: B images, C channels, S x S pixels, h x w patches, D width.

    Args:
        backbone: timm vision Transformer, with or without a classifier.
        transform: preprocessing of an image.

    Attributes:
        transform: function of a path, bytes or an image of Pillow; returns the normalised (C, S, S) input.
    """

    def __init__(self, backbone: Backbone, transform: Preprocessing) -> None:
        super().__init__()
        self.backbone = backbone
        self.transform = transform
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised (B, C, S, S) images to the output of timm's model: tokens, (B, T, D)."""
        return self.backbone.forward_features(images)

    @torch.inference_mode()
    def features(self, images: Images, feature: str | None = None) -> Tensor:
        """Return one vector per image, (B, width) float32.

        Args:
            images: normalised images; or one or several paths, bytes or images of Pillow.
            feature: name of a feature, see ``ImageFeatures``, such as "last1_mean", "last1_cls" or "last4_cls_mean";
                None for "last1_mean", or, of a fine-tuned model, for the vector that its classifier takes.

        Raises:
            ValueError: an image cannot be read, or the model does not have the feature.
        """
        return self._computed(images, feature or default_feature(self.backbone))

    @torch.inference_mode()
    def patch_features(self, images: Images) -> Tensor:
        """Return one vector per patch after the final norm, (B, h, w, D) float32; arguments as for ``features``."""
        return self._computed(images, PATCHES)

    def _computed(self, images: Images, name: str) -> Tensor:
        compute = ImageFeatures(self.backbone, [name])
        return torch.cat([compute(batch)[name] for batch in self._batches(images)])

    def _batches(self, images: Images) -> Iterator[Tensor]:
        if isinstance(images, Tensor):
            yield from (batch.to(self.device) for batch in images.split(_BATCH))
            return
        given = as_list(images)
        if not given:
            raise ValueError("there are no images")
        for start in range(0, len(given), _BATCH):
            yield self.transform.batch(given[start : start + _BATCH]).to(self.device)


class LoadedClassifier(LoadedEncoder):
    """A classifier of images.

    Args:
        backbone: timm vision Transformer.
        transform: preprocessing of an image.
        scores: function of normalised images that returns (B, K) probabilities.
        classes: names of the K classes.
    """

    def __init__(self, backbone: Backbone, transform: Preprocessing, scores: nn.Module, classes: Sequence[str]) -> None:
        super().__init__(backbone, transform)
        self.scores = scores
        self.classes = list(classes)
        self.freeze()

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised (B, C, S, S) images to (B, K) probabilities."""
        return self.scores(images)

    @torch.inference_mode()
    def predict(self, images: GivenImage | Sequence[GivenImage], top: int = 5) -> list[ClassScores]:
        """Return the ``top`` most probable classes of each image.

        Raises:
            ValueError: an image cannot be read, or top is below 1.
        """
        if top < 1:
            raise ValueError(f"top must be at least 1, got {top}")
        predictions = []
        for batch in self._batches(as_list(images)):
            values, labels = self(batch).float().topk(min(top, len(self.classes)), 1)
            for row, scores in zip(labels.tolist(), values.tolist(), strict=True):
                predictions.append(ClassScores([self.classes[label] for label in row], scores))
        return predictions


class TimmScores(nn.Module):
    """Probabilities of a timm classifier.

    Args:
        model: timm model with a classifier.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images to (B, K) probabilities."""
        return self.model(images).float().softmax(1)


class TaskScores(nn.Module):
    """Probabilities or scores of a task with class labels.

    Args:
        task: LightningModule whose ``predict_step`` returns "scores".
        make_batch: function that makes a batch of normalised images.
    """

    def __init__(self, task: Any, make_batch: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.task = task
        self.make_batch = make_batch

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images to (B, K) scores."""
        return self.task.predict_step(self.make_batch(images), 0)["scores"]
