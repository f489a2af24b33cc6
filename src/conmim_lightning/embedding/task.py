"""Computing features of batches, as a LightningModule."""

from collections.abc import Sequence

import torch
from lightning import LightningModule
from torch import Tensor, nn

from conmim_lightning.embedding.dataset import EmbeddingBatch
from conmim_lightning.models.backbones import Backbone
from conmim_lightning.models.image_features import ImageFeatures


class EmbeddingTask(LightningModule):
    """Compute features with a vision Transformer.

    Shapes: B images, C channels, S x S pixels.

    Args:
        backbone: timm vision Transformer.
        normalize: module that converts uint8 images to the model's input.
        features: names of features, see ``ImageFeatures``.
        half: whether the results are float16 instead of float32.

    Raises:
        ValueError: there is no feature, or the model lacks one.
    """

    def __init__(
        self, backbone: Backbone, *, normalize: nn.Module, features: Sequence[str], half: bool = False
    ) -> None:
        super().__init__()
        self.features = ImageFeatures(backbone, features)
        self.normalize = normalize
        self.dtype_of_results = torch.float16 if half else torch.float32

    def on_after_batch_transfer(self, batch: EmbeddingBatch, dataloader_idx: int) -> EmbeddingBatch:
        """Normalise the images on the device."""
        return batch._replace(image=self.normalize(batch.image))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map normalised (B, C, S, S) images to their features by name."""
        return {name: values.to(self.dtype_of_results) for name, values in self.features(images).items()}

    def predict_step(self, batch: EmbeddingBatch, batch_idx: int) -> dict[str, Tensor]:
        """Return the features of a batch by name; none for an empty batch."""
        if len(batch.image):
            return self(batch.image)
        shapes = self.features.shapes
        return {name: torch.empty(0, *shape, dtype=self.dtype_of_results) for name, shape in shapes.items()}
