"""Models to export, with random weights."""

from typing import Any

import torch
from torch import nn

from conmim_lightning.models.backbones import info_of, vit
from conmim_lightning.models.normalize import Normalize
from conmim_lightning.weights.exported import ExportedModel
from conmim_lightning.weights.graphs import TokenGraph

SMALL: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 2, "img_size": 32, "patch_size": 8}
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]


@torch.no_grad()
def randomized(model: nn.Module) -> nn.Module:
    """All weights at random, so that none is a special value; a layer scale and a norm stay near one."""
    generator = torch.Generator().manual_seed(0)
    for name, value in model.named_parameters():
        is_scale = "gamma" in name or ("norm" in name and name.endswith("weight"))
        value.copy_(torch.randn(value.shape, generator=generator) * 0.2 + float(is_scale))
    return model.eval()


def exported_model(*, classes: int = 0, **changes: Any) -> ExportedModel:
    """A small encoder, or a classifier of some classes."""
    pooling = {"global_pool": "avg", "shared_rel_pos_bias": False} if classes else {}
    backbone = randomized(vit(**(SMALL | {"num_classes": classes} | pooling | changes)))
    info = info_of(backbone)
    assert info is not None
    return ExportedModel(
        backbone=backbone,
        architecture=None,
        arguments=info.arguments,
        mean=MEAN,
        std=STD,
        crop_pct=0.875,
        classes=[f"class {number}" for number in range(classes)],
        head=True,
        card="# A model",
        kind="classifier" if classes else "encoder",
        graph=backbone if classes else TokenGraph(backbone),
        image=(3, 32, 32),
        normalize=Normalize(MEAN, STD),
    )
