"""A backbone as a folder that plain timm opens.

``timm.create_model("local-dir:/folder", pretrained=True, num_classes=0)``: without ``pretrained`` timm reads the
configuration and makes random weights.
"""

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.models import save_for_hf
from torch import nn

from conmim_lightning.weights.mismatch import mismatch

ARCHITECTURES = {
    "Beit": "beit_base_patch16_224",
    "VisionTransformer": "vit_base_patch16_224",
    "Eva": "vit_base_patch16_rope_224",
}
"""timm's name to build each family by; every argument that could differ is written beside it."""

_PLAIN = (bool, int, float, str)


def export_backbone(
    backbone: nn.Module,
    arguments: dict[str, Any],
    folder: Path,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    card: str,
    crop_pct: float = 1.0,
    classes: Sequence[str] | None = None,
    head: bool = True,
) -> None:
    """Write ``model.safetensors``, timm's ``config.json`` and ``README.md``.

    Args:
        backbone: timm model.
        arguments: that it was made with, and others.
        folder: to make; must be empty if it exists.
        mean: of the images that it expects, per channel, in units of the full range.
        std: likewise.
        card: text of the README.
        crop_pct: share of the resized image's shorter side that evaluation crops, in (0, 1].
        classes: names of the classes, if the model has a classifier.
        head: false leaves the classifier out.

    Raises:
        ValueError: the family is unknown, the folder is not empty, or timm would build another model.
    """
    family = type(backbone).__name__
    if family not in ARCHITECTURES:
        raise ValueError(f"{family} cannot be exported; known are {', '.join(ARCHITECTURES)}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"output {str(folder)!r} exists and is not an empty folder")
    architecture, full = _recipe(type(backbone), arguments)
    if not head:
        full["num_classes"] = 0
    model = timm.create_model(architecture, pretrained=False, **full)
    state = {name: value for name, value in backbone.state_dict().items() if head or not name.startswith("head.")}
    if told := mismatch(model.state_dict(), state):
        raise ValueError(f"timm builds another {family} from {architecture} and {full} {told}")
    model.load_state_dict(state)
    _check_equal(backbone, model, full)
    size = (full.get("in_chans", 3), *cast(Any, model).patch_embed.img_size)
    data: dict[str, Any] = {
        "input_size": size,
        "mean": tuple(mean),
        "std": tuple(std),
        "interpolation": "bicubic",
        "crop_pct": crop_pct,
    }
    cast(Any, model).pretrained_cfg |= data | {"tag": "conmim", "license": None}  # timm's are of its own weights
    if classes and head:
        data_names = {"label_names": list(classes), "num_classes": len(classes)}
        cast(Any, model).pretrained_cfg |= data_names
    folder.mkdir(parents=True, exist_ok=True)
    save_for_hf(model, str(folder), model_args=full, safe_serialization=True)
    (folder / "README.md").write_text(card)


def _recipe(family: type, arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Timm's name of an architecture, and all arguments that make the model from it."""
    if "name" not in arguments:  # the configuration lists what the class takes
        return ARCHITECTURES[family.__name__], full_arguments(family, arguments)
    given = {
        name: arguments[name] for name in ("num_classes", "global_pool", "img_size", "in_chans") if name in arguments
    }
    place = Path(arguments["name"].removeprefix("local-dir:"), "config.json")
    if place.is_file():  # an exported folder says what it was made from
        config = json.loads(place.read_text())
        return config["architecture"], config.get("model_args", {}) | given
    return arguments["name"].split(".")[0], given


def full_arguments(family: type, arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments with every default that can be written down: timm's names of architectures have other defaults."""
    parameters = inspect.signature(family).parameters
    defaults = {name: p.default for name, p in parameters.items() if isinstance(p.default, _PLAIN)}
    given = {name: value for name, value in arguments.items() if name in parameters and isinstance(value, _PLAIN)}
    return defaults | given


@torch.no_grad()
def _check_equal(one: Any, other: Any, full: dict[str, Any]) -> None:
    """Weights that fit are not enough: heads, rotations and activations have none."""
    size = (full.get("in_chans", 3), *one.patch_embed.img_size)
    images = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    mine, theirs = (model.eval().cpu().forward_features(images) for model in (one, other))
    if not torch.allclose(mine, theirs, rtol=1e-5, atol=1e-5):
        raise ValueError(f"timm builds a model from these arguments whose tokens differ: {full}")
