"""Weights of a backbone from wherever they lie."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import timm
from safetensors.torch import load_file
from timm.models import is_model
from torch import Tensor

from conmim_lightning.weights.checkpoint import is_checkpoint, is_state, read_torch

Branch = Literal["teacher", "student"]
BRANCHES = ("teacher", "student")

ACCEPTED = (
    "a folder of a run, a Lightning checkpoint of this project, an exported folder (model.safetensors and config.json),"
    " a .pth, .pt or .safetensors file of weights with official or timm names, or the name of a timm model with weights"
)

_UNWRAPPED = ("model", "module", "state_dict")  # what training scripts save weights under
_PREFIXES = ("module.", "_orig_mod.")
_FORGOTTEN = ("mask_token", "lm_head.", "projectors.")  # of the pretext task; official names
_FILES = (".ckpt", ".pth", ".pt", ".bin", ".safetensors", ".tar")


class Weights(NamedTuple):
    """Weights of one backbone.

    Attributes:
        state: by timm's names.
        origin: where they come from, for messages.
        arguments: what the backbone was made with, as far as that is written down; empty where it is not.
        mean: of the images they were trained on, per channel, in units of the full range; None if not written down.
        std: likewise.
        classes: names of the classes that a classifier knows, in its order; empty where there is none.
    """

    state: dict[str, Tensor]
    origin: str
    arguments: Mapping[str, Any]
    mean: list[float] | None
    std: list[float] | None
    classes: Sequence[str] = ()


def read_weights(place: str, branch: Branch = "teacher") -> Weights:
    """Read weights; nothing that a file may carry is executed.

    Args:
        place: any of ``ACCEPTED``.
        branch: "teacher" or "student", of a pre-training run; of no effect on anything else.

    Raises:
        ValueError: there is nothing of the kind, or it cannot be read.
    """
    if branch not in BRANCHES:
        raise ValueError(f"branch must be one of {list(BRANCHES)}, got {branch!r}")
    path = Path(place.removeprefix("local-dir:")).expanduser()
    if path.is_dir():
        return _from_folder(path, branch)
    if path.is_file():
        return _from_file(path, branch)
    if place.endswith(_FILES) or (os.sep in place and not place.startswith("hf-hub:")) or not _known_to_timm(place):
        raise ValueError(f"weights {place!r} do not exist; give {ACCEPTED}")
    return _from_timm(place)


def _from_folder(path: Path, branch: Branch) -> Weights:
    if (path / "checkpoints" / "last.ckpt").is_file():
        return _from_file(path / "checkpoints" / "last.ckpt", branch)
    if not ((path / "model.safetensors").is_file() and (path / "config.json").is_file()):
        raise ValueError(f"folder {str(path)!r} holds no weights; give {ACCEPTED}")
    try:
        config = json.loads((path / "config.json").read_text())
        pretrained, arguments = config.get("pretrained_cfg", {}), config.get("model_args", {})
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{str(path / 'config.json')!r} is no configuration of a timm model: {error}") from error
    return Weights(
        _safetensors(path / "model.safetensors"),
        str(path),
        arguments,
        pretrained.get("mean"),
        pretrained.get("std"),
        pretrained.get("label_names") or (),
    )


def _from_file(path: Path, branch: Branch) -> Weights:
    found: Any = _safetensors(path) if path.suffix == ".safetensors" else read_torch(path)
    if is_checkpoint(found):
        config = found.get("run", {}).get("config", {})
        data = config.get("data", {})
        state = _branch_of(found["state_dict"], branch, path)
        return Weights(state, str(path), config.get("backbone", {}), data.get("mean"), data.get("std"), _classes(found))
    while isinstance(found, Mapping) and not is_state(found):
        key = next((key for key in _UNWRAPPED if isinstance(found.get(key), Mapping)), None)
        if key is None:
            raise ValueError(f"{str(path)!r} holds no weights but {list(found)[:5]}")
        found = found[key]
    if not is_state(found):
        raise ValueError(f"{str(path)!r} holds no weights but a {type(found).__name__}")
    return Weights(_plain(found), str(path), {}, None, None)


def _classes(checkpoint: Mapping[str, Any]) -> Sequence[str]:
    """Of the head in a checkpoint's backbone; classifiers of frozen features lie beside it."""
    return checkpoint.get("classes", ()) if "model.head.weight" in checkpoint["state_dict"] else ()


def _from_timm(name: str) -> Weights:
    """Timm's own, downloaded unless they are on the disk already."""
    try:
        model: Any = timm.create_model(name, pretrained=True)
    except Exception as error:  # of the network, of the hub, of timm
        raise ValueError(f"timm's weights {name!r} cannot be had: {str(error).splitlines()[0]}") from error
    told = model.pretrained_cfg
    return Weights(model.state_dict(), f"timm's {name}", {}, list(told["mean"]), list(told["std"]))


def _known_to_timm(name: str) -> bool:
    return name.startswith("hf-hub:") or is_model(name.split(".")[0])


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except Exception as error:  # safetensors raises its own, without a common base
        raise ValueError(f"{str(path)!r} is no readable safetensors file: {error}") from error


def _branch_of(state: Mapping[str, Tensor], branch: Branch, path: Path) -> dict[str, Tensor]:
    """The backbone in a task's state."""
    pretraining = {"teacher": "model.teacher.branch.encoder.backbone.", "student": "model.student.encoder.backbone."}
    dense = ("model.maps.backbone.", "model.net.backbone.maps.backbone.")  # segmentation, detection
    for prefix in (pretraining[branch], "features.backbone.", *dense, "model."):
        if found := {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}:
            return found
    raise ValueError(f"{str(path)!r} is of a run that has no backbone")


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefixes of wrappers, the pretext task's own, and the official tables of position indices."""
    found = dict(state)
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in found):
            found = {name.removeprefix(prefix): value for name, value in found.items()}
    return {
        name: value
        for name, value in found.items()
        if not name.startswith(_FORGOTTEN) and not name.endswith("relative_position_index")
    }
