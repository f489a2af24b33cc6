"""All features of images that a vision Transformer gives, fine-tuned ones included."""

from collections.abc import Sequence

from torch import Tensor, nn

from conmim_lightning.models.backbones import Backbone
from conmim_lightning.models.features import FrozenFeatures

POOLED, PATCHES = "pooled", "patches"


class ImageFeatures(nn.Module):
    """Compute features of images by name.

    Shapes: B images, C channels, S x S pixels, h x w patches, D width.

    Args:
        backbone: timm vision Transformer.
        features: names: those of ``FrozenFeatures``; "patches", all patch tokens after the final norm, (h, w, D); for a
            fine-tuned model "pooled", the vector that its classifier takes.

    Raises:
        ValueError: there is no feature, or the model lacks one.
    """

    def __init__(self, backbone: Backbone, features: Sequence[str]) -> None:
        super().__init__()
        if not features:
            raise ValueError("at least one feature is needed, such as last1_mean")
        self.backbone = backbone.requires_grad_(False)
        self.features = list(dict.fromkeys(features))
        own = [name for name in self.features if name not in (POOLED, PATCHES)]
        self.frozen = FrozenFeatures(backbone, own) if own else None
        self.eval()

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one image's value by feature."""
        width, grid = self.backbone.embed_dim, self.backbone.patch_embed.grid_size
        shapes: dict[str, tuple[int, ...]] = {POOLED: (width,), PATCHES: (*grid, width)}  # type: ignore[misc]
        widths = self.frozen.widths if self.frozen is not None else {}
        return {name: shapes.get(name) or (widths[name],) for name in self.features}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Map normalised (B, C, S, S) images to their features by name, float32."""
        values = self.frozen(images) if self.frozen is not None else {}
        if set(self.features) & {POOLED, PATCHES}:
            tokens = self.backbone.forward_features(images)
            values[POOLED] = self.backbone.forward_head(tokens, pre_logits=True)
            patches = tokens[:, self.backbone.num_prefix_tokens :]
            values[PATCHES] = patches.unflatten(1, tuple(self.backbone.patch_embed.grid_size))
        return {name: values[name].float() for name in self.features}


def default_feature(backbone: Backbone) -> str:
    """Return "pooled" for a fine-tuned model, else "last1_mean"."""
    is_tuned = backbone.num_classes or isinstance(backbone.norm, nn.Identity)
    return POOLED if is_tuned else "last1_mean"
