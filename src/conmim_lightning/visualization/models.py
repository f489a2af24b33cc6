"""The models that are drawn, with their names."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from conmim_lightning.inference.load import load
from conmim_lightning.inference.models import LoadedEncoder
from conmim_lightning.runtime.restore import restored_task
from conmim_lightning.weights.read import Branch

RANDOM = "random"


class NamedModel(NamedTuple):
    """A model and how it is labelled.

    Attributes:
        name: label.
        encoder: model with its preprocessing.
        task: pre-training task with student and teacher; None for other models.
    """

    name: str
    encoder: LoadedEncoder
    task: Any | None


def named_models(source: str, against: str | None, branch: Branch, trust: Sequence[str]) -> list[NamedModel]:
    """Load a model, and the one to draw below it.

    Args:
        source: see ``inference.load.load``.
        against: likewise, or "random" for the same architecture with new weights; None for one model.
        branch: network of a pre-training run.
        trust: packages whose classes a checkpoint may name.

    Raises:
        ValueError: a model cannot be loaded, has no patch features, or takes other images than the first.
    """
    first = _named(source, branch, trust)
    if against is None:
        return [first]
    second = _random(first) if against == RANDOM else _named(against, branch, trust)
    sizes = [(model.encoder.transform.size, len(model.encoder.transform.mean)) for model in (first, second)]
    if sizes[0] != sizes[1]:
        raise ValueError(f"the models take different images (size and channels): {sizes[0]} and {sizes[1]}")
    if second.name == first.name:
        first, second = (model._replace(name=str(path)) for model, path in ((first, source), (second, against)))
    return [first, second]


def _named(source: str, branch: Branch, trust: Sequence[str]) -> NamedModel:
    model = load(source, branch=branch, trust=trust)
    if not isinstance(model, LoadedEncoder):
        raise ValueError(
            f"{source!r} is a {type(model).__name__}, which has no features to draw; use kind=[predictions]"
        )
    task = None
    if Path(source).suffix == ".ckpt" or Path(source, "checkpoints").is_dir():
        restored, _ = restored_task(source, trust=trust)
        task = restored if hasattr(restored, "similarity") else None
    return NamedModel(Path(source).name or source, model, task)


def _random(model: NamedModel) -> NamedModel:
    """Return a copy with the weights of a new initialisation, seed 0."""
    encoder = copy.deepcopy(model.encoder)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        for module in encoder.backbone.modules():
            _reset(module)
    return NamedModel("re-initialised", encoder, None)


def _reset(module: nn.Module) -> None:
    """Re-initialise the parameters that a module itself has."""
    if hasattr(module, "reset_parameters"):
        module.reset_parameters()  # type: ignore[operator]
        return
    for name, value in module.named_parameters(recurse=False):
        if value.ndim > 1:
            nn.init.trunc_normal_(value, std=0.02)
        elif "bias" in name:
            nn.init.zeros_(value)
