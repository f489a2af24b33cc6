"""The models that are drawn, with their names."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import timm
import torch
from hydra.utils import instantiate

from conmim_lightning.inference.load import load
from conmim_lightning.inference.models import LoadedEncoder
from conmim_lightning.models.backbones import Backbone, vit
from conmim_lightning.runtime.restore import restored_task, without_weights
from conmim_lightning.weights.checkpoint import is_run
from conmim_lightning.weights.huggingface_config import backbone_arguments
from conmim_lightning.weights.read import Branch, read_config

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
    second = _random(source, branch, trust, first) if against == RANDOM else _named(against, branch, trust)
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
    if is_run(Path(source).expanduser()):
        restored, _ = restored_task(source, trust=trust)
        task = restored if hasattr(restored, "similarity") else None
    return NamedModel(Path(source).name or source, model, task)


def _random(source: str, branch: Branch, trust: Sequence[str], model: NamedModel) -> NamedModel:
    """Return the same model with newly initialised weights, seed 0, as its training or timm would begin."""
    encoder = copy.deepcopy(model.encoder)
    with torch.random.fork_rng([]):
        encoder.backbone = _new_backbone(source, branch, trust)
    return NamedModel("re-initialised", encoder.freeze(), None)


def _new_backbone(source: str, branch: Branch, trust: Sequence[str]) -> Backbone:
    path = Path(source.removeprefix("local-dir:")).expanduser()
    torch.manual_seed(0)
    if is_run(path):
        _, checkpoint = restored_task(source, trust=trust)
        torch.manual_seed(0)
        return instantiate(without_weights(checkpoint["run"]["config"]["task"])).backbone(branch)
    config = read_config(path / "config.json") if (path / "config.json").is_file() else None
    if config and "model_type" in config:
        return vit(**backbone_arguments(config))
    architecture = f"local-dir:{path}" if config else source.split(".")[0]
    return cast(Backbone, timm.create_model(architecture, pretrained=False))
