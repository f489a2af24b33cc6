"""Reading of a backbone's weights from any source."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import timm
from safetensors.torch import load_file
from timm.models import is_model
from torch import Tensor

from conmim_lightning.weights.checkpoint import first_line, is_checkpoint, is_state, read_torch
from conmim_lightning.weights.exported import sha256_of
from conmim_lightning.weights.names import backbone_names

Branch = Literal["teacher", "student"]
BRANCHES = ("teacher", "student")

ACCEPTED = (
    "a folder of a run, a Lightning checkpoint of this project, an exported folder (model.safetensors and config.json),"
    " a .pth, .pt or .safetensors file of weights with official, timm's or Hugging Face's names, a folder that"
    " transformers wrote, or the name of a timm model with weights"
)

_WRAPPERS = ("model", "module", "state_dict", "model_state_dict", "net", "weights")
"""Keys under which training scripts save weights; before them, those of the requested branch."""

_BRANCH_WRAPPERS = {
    "teacher": ("teacher", "target_encoder", "state_dict_ema", "model_ema", "ema"),
    "student": ("student", "encoder"),
}
_LARGEST_CONFIG = 10_000_000  # bytes
_SUFFIXES = (".ckpt", ".pth", ".pt", ".bin", ".safetensors", ".tar")
_BRANCH_PREFIXES = {"teacher": "model.teacher.branch.encoder.backbone.", "student": "model.student.encoder.backbone."}
_DOWNSTREAM_PREFIXES = ("features.backbone.", "model.maps.backbone.", "model.net.backbone.maps.backbone.", "model.")


class Weights(NamedTuple):
    """Weights of one backbone.

    Attributes:
        state: tensors by timm's names.
        origin: description of the source, for messages.
        arguments: arguments that the backbone was built with, as far as recorded.
        mean: mean of the training images per channel, on a scale of 0 to 1; None if not recorded.
        std: standard deviation of the training images per channel, on a scale of 0 to 1; None if not recorded.
        classes: class names of the classifier, in its order; empty if there is none.
    """

    state: dict[str, Tensor]
    origin: str
    arguments: Mapping[str, Any]
    mean: Sequence[float] | None
    std: Sequence[float] | None
    classes: Sequence[str] = ()


def read_weights(source: str, branch: Branch = "teacher") -> Weights:
    """Read weights without executing code in a file.

    Args:
        source: source in one of the forms listed in ``ACCEPTED``.
        branch: "teacher" or "student" of a pre-training run; no effect on anything else.

    Raises:
        ValueError: the weights do not exist or cannot be read.
    """
    if branch not in BRANCHES:
        raise ValueError(f"branch must be one of {list(BRANCHES)}, got {branch!r}")
    path = Path(source.removeprefix("local-dir:")).expanduser()
    if path.is_dir():
        return _from_folder(path, branch)
    if path.is_file():
        return _from_file(path, branch)
    if (
        source.endswith(_SUFFIXES)
        or (os.sep in source and not source.startswith("hf-hub:"))
        or not _is_timm_name(source)
    ):
        raise ValueError(f"weights {source!r} do not exist; give {ACCEPTED}")
    return _from_timm(source)


def _from_folder(path: Path, branch: Branch) -> Weights:
    if (path / "checkpoints" / "last.ckpt").is_file():
        return _from_file(path / "checkpoints" / "last.ckpt", branch)
    if not ((path / "model.safetensors").is_file() and (path / "config.json").is_file()):
        raise ValueError(f"folder {str(path)!r} holds no weights; give {ACCEPTED}")
    config = read_config(path / "config.json")
    if "model_type" in config:  # of transformers
        return _from_file(path / "model.safetensors", branch)
    pretrained, arguments = config.get("pretrained_cfg", {}), config.get("model_args", {})
    if not isinstance(pretrained, dict) or not isinstance(arguments, dict):
        raise ValueError(f"{str(path / 'config.json')!r} is not the configuration of a timm model")
    digest = config.get("sha256")
    if digest is not None and digest != sha256_of(path / "model.safetensors"):
        raise ValueError(
            f"{str(path / 'model.safetensors')!r} is damaged: its SHA-256 differs from that in config.json"
        )
    return Weights(
        _safetensors(path / "model.safetensors"),
        str(path),
        arguments,
        pretrained.get("mean"),
        pretrained.get("std"),
        config.get("label_names") or pretrained.get("label_names") or (),
    )


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration of timm or transformers.

    Raises:
        ValueError: the file cannot be read, has more than 10 MB, or is no dictionary in JSON.
    """
    try:
        if path.stat().st_size > _LARGEST_CONFIG:
            raise ValueError(f"it has more than {_LARGEST_CONFIG} bytes")
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{str(path)!r} is not the configuration of a model: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{str(path)!r} is not the configuration of a model: it is a {type(content).__name__}")
    return content


def _from_file(path: Path, branch: Branch) -> Weights:
    content = _safetensors(path) if path.suffix == ".safetensors" else read_torch(path)
    if is_checkpoint(content):
        config = content.get("run", {}).get("config", {})
        data = config.get("data", {})
        state = _backbone_state(content["state_dict"], branch, path)
        # Only a fine-tuned backbone contains a head; classifiers of frozen features are stored outside the backbone.
        classes = content.get("classes", ()) if "model.head.weight" in content["state_dict"] else ()
        return Weights(state, str(path), config.get("backbone", {}), data.get("mean"), data.get("std"), classes)
    while isinstance(content, Mapping) and not is_state(content):
        key = next((key for key in _wrappers(branch) if isinstance(content.get(key), Mapping)), None)
        if key is None:
            raise ValueError(f"{str(path)!r} holds no weights but {list(content)[:5]}")
        content = content[key]
    if not is_state(content):
        raise ValueError(f"{str(path)!r} holds no weights but a {type(content).__name__}")
    try:
        state = backbone_names(content, branch)
    except ValueError as error:
        raise ValueError(f"{str(path)!r}: {error}") from error
    return Weights(state, str(path), {}, None, None)


def _wrappers(branch: Branch) -> tuple[str, ...]:
    other = "student" if branch == "teacher" else "teacher"
    return (*_BRANCH_WRAPPERS[branch], *_WRAPPERS, *_BRANCH_WRAPPERS[other])


def _from_timm(name: str) -> Weights:
    """Read timm's pre-trained weights, downloaded unless they are cached."""
    try:
        model = timm.create_model(name, pretrained=True)
    except Exception as error:  # raised by the network, the hub or timm
        raise ValueError(f"timm's weights {name!r} are not available: {first_line(error)}") from error
    pretrained = cast(dict[str, Any], model.pretrained_cfg)
    return Weights(model.state_dict(), f"timm's {name}", {}, list(pretrained["mean"]), list(pretrained["std"]))


def _is_timm_name(name: str) -> bool:
    return name.startswith("hf-hub:") or is_model(name.split(".")[0])


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except Exception as error:  # safetensors' errors have no common base class
        raise ValueError(f"{str(path)!r} is not a readable safetensors file: {error}") from error


def _backbone_state(state: Mapping[str, Tensor], branch: Branch, path: Path) -> dict[str, Tensor]:
    """Return the backbone's tensors in the state dict of a task."""
    is_pretraining = any(name.startswith(_BRANCH_PREFIXES["student"]) for name in state)
    for prefix in (_BRANCH_PREFIXES[branch],) if is_pretraining else _DOWNSTREAM_PREFIXES:
        if backbone := {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}:
            return backbone
    if is_pretraining:
        raise ValueError(f"{str(path)!r} is of a run without a {branch}; set backbone.branch=student")
    raise ValueError(f"{str(path)!r} is of a run that has no backbone")
