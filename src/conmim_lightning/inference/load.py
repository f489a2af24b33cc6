"""Loading of trained models for use in other programs."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import timm
import torch
from hydra.utils import instantiate
from timm.data import ImageNetInfo
from timm.models import is_model

from conmim_lightning.batches import LabelledBatch
from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.transforms.classification import EvaluationTransform, SquashTransform
from conmim_lightning.data.transforms.crop import CenterSquare
from conmim_lightning.inference.dense import LoadedDetector, LoadedSegmenter
from conmim_lightning.inference.models import LoadedClassifier, LoadedEncoder, TaskScores, TimmScores
from conmim_lightning.inference.preprocessing import Preprocessing
from conmim_lightning.models.backbones import Backbone, vit
from conmim_lightning.perturbation.apply import IMAGENET_MEAN, IMAGENET_STD
from conmim_lightning.runtime.restore import restored_task
from conmim_lightning.weights.checkpoint import is_run
from conmim_lightning.weights.huggingface_config import backbone_arguments, class_names
from conmim_lightning.weights.read import Branch, read_config, read_weights

LoadedModel = LoadedEncoder | LoadedClassifier | LoadedSegmenter | LoadedDetector

_IMAGENET_CLASSES = 1000
_ROUNDING = 1e-6
_FORMS = (
    "a folder of a run, a checkpoint of this project, a folder that this project exported, a folder of transformers, or"
    " the name of a timm model"
)


def load(source: str | Path, *, branch: Branch = "teacher", trust: Sequence[str] = ()) -> LoadedModel:
    """Load a trained model, in eval mode, on the CPU, with its preprocessing; nothing in a file is executed.

    Args:
        source: folder of a run, checkpoint of this project, folder that ``export`` wrote, folder of transformers (BEiT,
            ViT, DINOv2), or name of a timm model with weights.
        branch: network of a pre-training run, "teacher" or "student".
        trust: packages whose classes a checkpoint may name, such as your own tasks.

    Returns:
        ``LoadedEncoder`` of a pre-training run and of weights without a classifier, ``LoadedClassifier``,
        ``LoadedSegmenter`` or ``LoadedDetector``.

    Raises:
        ValueError: the source does not exist, cannot be read, or does not say which architecture it is of.
    """
    name = str(source)
    path = Path(name.removeprefix("local-dir:")).expanduser()
    if is_run(path):
        return _from_checkpoint(str(path), branch, trust)
    if (path / "config.json").is_file():
        config = read_config(path / "config.json")
        return _from_transformers(path, config) if "model_type" in config else _from_timm(f"local-dir:{path}")
    if path.exists():
        raise ValueError(
            f"{name!r} does not say which architecture its weights are of; give {_FORMS}, or build the model:"
            f" vit_base(weights={name!r})"
        )
    if not (name.startswith("hf-hub:") or is_model(name.split(".")[0])):
        raise ValueError(f"{name!r} does not exist; give {_FORMS}")
    return _from_timm(name)


def _from_checkpoint(path: str, branch: Branch, trust: Sequence[str]) -> LoadedModel:
    task, checkpoint = restored_task(path, trust=trust)
    data = checkpoint["run"]["config"]["data"]
    if not hasattr(task, "backbone"):
        make_dataset = partial(instantiate(data["dataset"]), decoder=instantiate(data["decoder"]))
        model = LoadedSegmenter if hasattr(task, "inference") else LoadedDetector
        return model(task, make_dataset)
    transform = _recorded_preprocessing(data)
    if "evaluation_transform" not in data:
        return LoadedEncoder(task.backbone(branch), transform)
    return LoadedClassifier(task.backbone(branch), transform, TaskScores(task, _labelled), task.classes)


def _recorded_preprocessing(data: dict[str, Any]) -> Preprocessing:
    """Return the preprocessing of a run's evaluation; of a pre-training run, that of its k-NN probe.

    Args:
        data: recorded configuration of the run's data.
    """
    common = {"mean": data["mean"], "std": data["std"], "decoder": instantiate(data["decoder"])}
    if "evaluation_transform" in data:
        transform = instantiate(data["evaluation_transform"])
        return Preprocessing(transform, size=transform.size, **common)
    size = data["crop"]["size"]
    return Preprocessing(CenterSquare(size), size=size, **common)


def _from_timm(name: str) -> LoadedEncoder:
    """Load a timm model by name, or a folder in timm's format."""
    weights = read_weights(name)  # checks the digest of an exported folder, and that the weights exist
    architecture = name if name.startswith(("local-dir:", "hf-hub:")) else name.split(".")[0]
    backbone = timm.create_model(architecture, pretrained=False)
    if not isinstance(backbone, Backbone):
        raise ValueError(f"{name!r} is a {type(backbone).__name__}; a Beit, Eva or VisionTransformer is needed")
    backbone.load_state_dict(weights.state)
    settings = cast(dict[str, Any], backbone.pretrained_cfg)
    size, crop_pct = backbone.patch_embed.img_size[0], settings.get("crop_pct") or 1.0  # type: ignore[index]
    channels = backbone.patch_embed.get_submodule("proj").get_parameter("weight").shape[1]
    mean, std = weights.mean or settings["mean"], weights.std or settings["std"]
    crop = _crop(
        size,
        max(size, int(size / crop_pct)),
        interpolation=settings.get("interpolation") or "bicubic",
        squashes=settings.get("crop_mode") == "squash",
    )
    transform = Preprocessing(crop, size=size, mean=mean, std=std, decoder=Decoder(channels=channels))
    return _of_backbone(backbone, transform, weights.classes or _class_names(backbone.num_classes))


def _from_transformers(path: Path, config: dict[str, Any]) -> LoadedEncoder:
    backbone = vit(**backbone_arguments(config), weights=str(path))
    stored = path / "preprocessor_config.json"
    settings = read_config(stored) if stored.is_file() else {}
    transform = _processor(settings, config.get("image_size", 224), path)
    return _of_backbone(backbone, transform, class_names(config))


def _of_backbone(backbone: Backbone, transform: Preprocessing, classes: Sequence[str]) -> LoadedEncoder:
    """Return a classifier if a timm model has one, else an encoder."""
    if not backbone.num_classes:
        return LoadedEncoder(backbone, transform)
    return LoadedClassifier(backbone, transform, TimmScores(backbone), classes)


def _processor(settings: dict[str, Any], size: int, path: Path) -> Preprocessing:
    """Return the preprocessing that the image processor of a folder of transformers describes.

    Raises:
        ValueError: it rescales in another way.
    """
    if not settings.get("do_rescale", True) or abs(settings.get("rescale_factor", 1 / 255) - 1 / 255) > _ROUNDING:
        raise ValueError(f"the image processor of {str(path)!r} does not divide by 255")
    normalizes = settings.get("do_normalize", True)
    mean = settings.get("image_mean", IMAGENET_MEAN) if normalizes else (0.0,) * 3
    std = settings.get("image_std", IMAGENET_STD) if normalizes else (1.0,) * 3
    resized = settings.get("size") or {"shortest_edge": size}
    squashes = isinstance(resized, int) or "height" in resized
    sides = [resized] if isinstance(resized, int) else list(resized.values())
    interpolation = {2: "bilinear", 3: "bicubic"}.get(settings.get("resample", 3), "bicubic")
    crop = _crop(size, max(size, int(sides[0])), interpolation=interpolation, squashes=squashes)
    return Preprocessing(crop, size=size, mean=mean, std=std)


def _crop(size: int, resize: int, *, interpolation: str, squashes: bool) -> EvaluationTransform | SquashTransform:
    kind = SquashTransform if squashes else EvaluationTransform
    return kind(size, resize=resize, interpolation=interpolation)


def _labelled(images: torch.Tensor) -> LabelledBatch:
    """Return a batch without labels."""
    return LabelledBatch(images, torch.full((len(images),), -1), torch.arange(len(images)), [""] * len(images))


def _class_names(count: int) -> list[str]:
    """Return ImageNet's names for 1,000 classes, else numbers."""
    if count != _IMAGENET_CLASSES:
        return [str(number) for number in range(count)]
    info = ImageNetInfo()
    return [str(info.index_to_description(index)) for index in range(count)]
