"""timm's vision Transformers, initialised as in the official code or with weights from any source."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import timm
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from conmim_lightning.models.init import init_backbone
from conmim_lightning.weights.load import load_weights
from conmim_lightning.weights.read import Branch, read_weights

_log = logging.getLogger(__name__)

Backbone = Beit | VisionTransformer | Eva
Positions = Literal["relative", "absolute", "rotary"]
_FAMILIES = {"relative": Beit, "absolute": VisionTransformer, "rotary": Eva}


@dataclass
class BackboneInfo:
    """Record of how a backbone was built, stored on the timm model as ``conmim_info``.

    Attributes:
        architecture: timm's model name; None for a family that is built only from its arguments.
        arguments: arguments of timm's ``create_model``, or of the family's class.
        head_init_scale: factor of a randomly initialised classifier's weights.
        weights: source of the weights; None for random initialisation.
        mean: mean of the images that the weights were trained on; None if unknown.
        std: standard deviation of the images that the weights were trained on; None if unknown.
        classes: class names of the classifier, in order; empty if there is none.
    """

    architecture: str | None
    arguments: dict[str, Any]
    head_init_scale: float = 1.0
    weights: str | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    classes: list[str] = field(default_factory=list)


def info_of(backbone: nn.Module) -> BackboneInfo | None:
    """Return how a backbone was built; None if it was built by timm directly."""
    return getattr(backbone, "conmim_info", None)


def vit(
    *,
    embed_dim: int,
    depth: int,
    num_heads: int,
    img_size: int = 224,
    patch_size: int = 16,
    in_chans: int = 3,
    init_values: float | None = 0.1,
    positions: Positions = "relative",
    shared_rel_pos_bias: bool = True,
    drop_path_rate: float = 0.0,
    num_classes: int = 0,
    global_pool: str = "token",
    weights: str | None = None,
    branch: Branch = "teacher",
    allow_mismatch: Sequence[str] = (),
    head_init_scale: float = 1.0,
    timm_args: Mapping[str, Any] | None = None,
) -> Backbone:
    """Build a vision Transformer: timm's ``Beit`` (the method), ``VisionTransformer`` or ``Eva``.

    Args:
        embed_dim: width of the tokens.
        depth: number of blocks.
        num_heads: attention heads per block.
        img_size: pixels per side of the square images.
        patch_size: pixels per side of a patch.
        in_chans: channels of the images.
        init_values: initial layer scale; null for no layer scale.
        positions: "relative" (``Beit``, the method), "absolute" (``VisionTransformer``) or "rotary" (``Eva``).
        shared_rel_pos_bias: whether all blocks share one table of relative positions, as in pre-training; if not, each
            block has a table, as in fine-tuning.
        drop_path_rate: drop path rate of the last block, in [0, 1).
        num_classes: classes of the classifier; 0 for no classifier.
        global_pool: pooling "avg", "token" or "", see timm; "token" keeps the final norm.
        weights: source of initial weights, see ``weights.read.ACCEPTED``; null for random initialisation.
        branch: network to read from a pre-training run, "teacher" or "student".
        allow_mismatch: prefixes of names that may be missing, unexpected or of another shape in the weights.
        head_init_scale: factor of a randomly initialised classifier's weights (official: .001 for fine-tuning).
        timm_args: further arguments of timm's class.

    Raises:
        ValueError: ``positions`` is unknown, or timm's class or the weights do not fit.
    """
    if positions not in _FAMILIES:
        raise ValueError(f"backbone.positions must be one of {', '.join(_FAMILIES)}, got {positions!r}")
    arguments: dict[str, Any] = {
        "img_size": img_size,
        "patch_size": patch_size,
        "in_chans": in_chans,
        "embed_dim": embed_dim,
        "depth": depth,
        "num_heads": num_heads,
        "init_values": init_values,
        "drop_path_rate": drop_path_rate,
        "num_classes": num_classes,
        "global_pool": global_pool,
    }
    if positions == "relative":
        arguments |= {"use_abs_pos_emb": False, "use_shared_rel_pos_bias": shared_rel_pos_bias}
        arguments |= {"use_rel_pos_bias": not shared_rel_pos_bias}
    elif positions == "rotary":
        arguments |= {"use_abs_pos_emb": False, "use_rot_pos_emb": True}
    arguments |= timm_args or {}
    try:
        model = _FAMILIES[positions](**arguments)
    except TypeError as error:
        raise ValueError(f"backbone.timm_args do not fit timm's {_FAMILIES[positions].__name__}: {error}") from error
    info = BackboneInfo(None, arguments, head_init_scale=head_init_scale)
    return _start(model, info, weights=weights, branch=branch, allow_mismatch=allow_mismatch)


vit_small = partial(vit, embed_dim=384, depth=12, num_heads=6)
"""official: ViT-S/16."""

vit_base = partial(vit, embed_dim=768, depth=12, num_heads=12)
"""official: ViT-B/16."""

vit_large = partial(vit, embed_dim=1024, depth=24, num_heads=16, init_values=1e-5)
"""official: ViT-L/16."""


def timm_vit(
    *,
    name: str | None = None,
    weights: str | None = None,
    branch: Branch = "teacher",
    allow_mismatch: Sequence[str] = (),
    head_init_scale: float = 1.0,
    num_classes: int = 0,
    global_pool: str = "token",
    img_size: int = 224,
    in_chans: int = 3,
    drop_path_rate: float = 0.0,
    shared_rel_pos_bias: bool = False,
) -> Backbone:
    """Build any of timm's vision Transformers by name.

    If the classifier of the weights has other classes, it is re-initialised.

    Args:
        name: timm's model name, whose tag after the first dot is ignored; or "local-dir:" and an exported
            folder; null uses the name of the weights.
        weights: see ``vit``.
        branch: see ``vit``.
        allow_mismatch: see ``vit``.
        head_init_scale: see ``vit``.
        num_classes: see ``vit``.
        global_pool: see ``vit``.
        img_size: see ``vit``.
        in_chans: see ``vit``.
        drop_path_rate: see ``vit``.
        shared_rel_pos_bias: must be false; timm's models have their own relative positions.

    Raises:
        ValueError: timm does not know the name, or the model is not a vision Transformer with ``blocks``.
    """
    name = weights if name is None else name
    if name is None:
        raise ValueError("backbone.name or backbone.weights is needed, such as vit_base_patch16_224.mae")
    if shared_rel_pos_bias:
        raise ValueError("backbone.shared_rel_pos_bias must be false for models that timm builds by name")
    architecture = name if name.startswith("local-dir:") else name.split(".")[0]
    arguments = {"num_classes": num_classes, "global_pool": global_pool, "img_size": img_size, "in_chans": in_chans}
    try:
        model = timm.create_model(architecture, pretrained=False, drop_path_rate=drop_path_rate, **arguments)
    except (RuntimeError, TypeError) as error:  # unknown to timm, or of a family that takes other arguments
        raise ValueError(f"timm builds no vision Transformer with backbone.name={name!r}: {error}") from error
    if not isinstance(model, Backbone):
        raise ValueError(
            f"backbone.name={name!r} is a {type(model).__name__}; a Beit, Eva or VisionTransformer is needed"
        )
    allowed = [*allow_mismatch, *(("head", "fc_norm", "norm") if num_classes else ())]
    info = BackboneInfo(architecture, arguments, head_init_scale=head_init_scale)
    return _start(model, info, weights=weights, branch=branch, allow_mismatch=allowed)


def _start(
    model: Backbone, info: BackboneInfo, *, weights: str | None, branch: Branch, allow_mismatch: Sequence[str]
) -> Backbone:
    """Initialise the weights of a timm model, or load them."""
    init_backbone(model, head_init_scale=info.head_init_scale)
    if weights is not None:
        loaded = read_weights(weights, branch)
        difference = load_weights(model, loaded, allow_mismatch=allow_mismatch)
        _log.info("weights of %s%s", loaded.origin, f"; except:\n{difference.describe()}" if difference else "")
        info.weights, info.mean, info.std, info.classes = weights, loaded.mean, loaded.std, list(loaded.classes)
    model.conmim_info = info  # type: ignore[assignment]
    return model
