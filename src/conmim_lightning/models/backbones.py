"""timm's vision Transformers, drawn as in the official code, or with weights from wherever they lie."""

import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

import timm
from timm.models.beit import Beit
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from conmim_lightning.models.initial import init_backbone
from conmim_lightning.weights.load import load_weights
from conmim_lightning.weights.read import Branch, read_weights

_log = logging.getLogger(__name__)

OURS = ("weights", "branch", "allow", "head_scale")
"""Arguments that the functions of this file take besides those of timm's class."""


def _start(
    backbone: Any,
    *,
    weights: str | None = None,
    branch: Branch = "teacher",
    allow: Sequence[str] = (),
    head_scale: float = 1.0,
) -> Any:
    """Draw or load the weights of a timm model; what follows is added to the arguments of timm's class.

    Args:
        backbone: the model.
        weights: where to start from, see ``weights.read.ACCEPTED``; null draws them.
        branch: "teacher" or "student" of a pre-training run.
        allow: beginnings of names that weights may lack, have besides, or have in another shape.
        head_scale: a classifier that is drawn is multiplied with this (official: .001 for fine-tuning).
    """
    init_backbone(backbone, head_scale=head_scale)
    backbone.head_scale = head_scale
    backbone.started_from = weights
    if weights is not None:
        found = read_weights(weights, branch)
        left = load_weights(backbone, found, allow=allow)
        _log.info("weights of %s%s", found.origin, f"; but for:\n{left.told()}" if left else "")
        backbone.trained_on = (found.mean, found.std)
        backbone.trained_classes = list(found.classes)
    return backbone


def _factory(family: Callable[..., nn.Module], name: str) -> Callable[..., Any]:
    """A function that takes the arguments of timm's class and ours."""

    def make(**arguments: Any) -> Any:
        ours = {key: arguments.pop(key) for key in OURS if key in arguments}
        return _start(family(**arguments), **ours)

    theirs = [p for p in inspect.signature(family).parameters.values() if p.kind is not p.VAR_KEYWORD]
    added = [p for key, p in inspect.signature(_start).parameters.items() if key in OURS]
    keyword_only = [p.replace(kind=p.KEYWORD_ONLY) for p in (*theirs, *added)]
    make.__signature__ = inspect.Signature(keyword_only)  # type: ignore[attr-defined]
    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"timm's {family.__name__}; see ``_start`` for the arguments beside its own."
    return make


beit = _factory(Beit, "beit")
vision_transformer = _factory(VisionTransformer, "vision_transformer")
eva = _factory(Eva, "eva")


def named(
    *,
    name: str | None = None,
    weights: str | None = None,
    branch: Branch = "teacher",
    allow: Sequence[str] = (),
    head_scale: float = 1.0,
    num_classes: int = 0,
    global_pool: str = "avg",
    img_size: int = 224,
    in_chans: int = 3,
    drop_path_rate: float = 0.0,
) -> Any:
    """Any vision Transformer of timm's, by its name.

    Args:
        name: as in ``timm.list_models()``, what follows the first point does not count; or "local-dir:" and an
            exported folder; null takes that of the weights.
        weights: see ``_start``.
        branch: see ``_start``.
        allow: see ``_start``.
        head_scale: see ``_start``.
        num_classes: of the classifier; 0 for none.
        global_pool: "avg", "token" or "" as timm has them.
        img_size: pixels a side.
        in_chans: channels of the images.
        drop_path_rate: of the last block, in [0, 1).

    Raises:
        ValueError: timm does not know the name, or it is no vision Transformer with ``blocks``.
    """
    name = weights if name is None else name
    if name is None:
        raise ValueError("give backbone.name= or backbone.weights=, such as vit_base_patch16_224.mae")
    known = name if name.startswith("local-dir:") else name.split(".")[0]
    try:
        model: Any = timm.create_model(
            known,
            pretrained=False,
            num_classes=num_classes,
            global_pool=global_pool,
            img_size=img_size,
            in_chans=in_chans,
            drop_path_rate=drop_path_rate,
        )
    except (RuntimeError, TypeError) as error:  # unknown to timm, or of a family that takes other arguments
        raise ValueError(f"timm makes no vision Transformer of backbone.name={name!r}: {error}") from error
    if not isinstance(model, Beit | Eva | VisionTransformer):
        raise ValueError(
            f"backbone.name={name!r} is a {type(model).__name__}; needed is a Beit, Eva or VisionTransformer"
        )
    return _start(model, weights=weights, branch=branch, allow=allow, head_scale=head_scale)
