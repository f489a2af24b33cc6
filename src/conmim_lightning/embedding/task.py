"""Computing features of batches, as a LightningModule."""

from collections.abc import Sequence

import torch
from lightning import LightningModule
from torch import Tensor, nn

from conmim_lightning.embedding.dataset import EmbeddingBatch
from conmim_lightning.models.backbones import Backbone
from conmim_lightning.models.features import FrozenFeatures

POOLED, PATCHES = "pooled", "patches"


class EmbeddingTask(LightningModule):
    """Compute features with a vision Transformer.

    Shapes: B images, C channels, S x S pixels, h x w patches, D width.

    Args:
        backbone: timm vision Transformer.
        normalize: module that converts uint8 images to the model's input.
        features: names: those of ``FrozenFeatures``; "patches", all patch tokens after the final norm, (h, w, D); for a
            fine-tuned model "pooled", the vector that its classifier takes.
        half: whether the results are float16 instead of float32.

    Raises:
        ValueError: there is no feature, or the model lacks one.
    """

    def __init__(
        self, backbone: Backbone, *, normalize: nn.Module, features: Sequence[str], half: bool = False
    ) -> None:
        super().__init__()
        if not features:
            raise ValueError("at least one feature is needed, such as last1_mean")
        self.backbone = backbone.requires_grad_(False)
        self.normalize = normalize
        self.names = list(dict.fromkeys(features))
        own = [name for name in self.names if name not in (POOLED, PATCHES)]
        self.frozen = FrozenFeatures(backbone, own) if own else None
        self.dtype_of_results = torch.float16 if half else torch.float32
        self.eval()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one image's value by feature."""
        width, grid = self.backbone.embed_dim, self.backbone.patch_embed.grid_size
        shapes: dict[str, tuple[int, ...]] = {POOLED: (width,), PATCHES: (*grid, width)}  # type: ignore[misc]
        widths = self.frozen.widths if self.frozen is not None else {}
        return {name: shapes.get(name) or (widths[name],) for name in self.names}

    def on_after_batch_transfer(self, batch: EmbeddingBatch, dataloader_idx: int) -> EmbeddingBatch:
        """Normalise the images on the device."""
        return batch._replace(image=self.normalize(batch.image))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map normalised (B, C, S, S) images to their features by name."""
        values = self.frozen(images) if self.frozen is not None else {}
        if set(self.names) & {POOLED, PATCHES}:
            tokens = self.backbone.forward_features(images)
            values[POOLED] = self.backbone.forward_head(tokens, pre_logits=True)
            patches = tokens[:, self.backbone.num_prefix_tokens :]
            values[PATCHES] = patches.unflatten(1, tuple(self.backbone.patch_embed.grid_size))
        return {name: values[name].to(self.dtype_of_results) for name in self.names}

    def predict_step(self, batch: EmbeddingBatch, batch_idx: int) -> dict[str, Tensor]:
        """Return the features of a batch by name; none for an empty batch."""
        if not len(batch.image):
            return {name: torch.empty(0, *shape, dtype=self.dtype_of_results) for name, shape in self.shapes.items()}
        return self(batch.image)
