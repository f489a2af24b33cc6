"""Interface of an export format, and the model that it receives."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from torch import Tensor, nn

Kind = Literal["encoder", "classifier", "segmenter", "detector"]


class ExportedModel(NamedTuple):
    """A model to export, and the facts about it that a format needs.

    Attributes:
        backbone: timm model; of a segmenter or detector, without the modules that it does not need.
        architecture: timm's model name; None for a family that is built only from its arguments.
        arguments: arguments of timm's ``create_model``, or of the family's class.
        mean: mean of its training images per channel, on a scale of 0 to 1.
        std: standard deviation of its training images per channel, on a scale of 0 to 1.
        crop_pct: fraction of the resized image's shorter side that evaluation crops, in (0, 1].
        classes: class names of the exported classifier; empty if there is none.
        head: whether the classifier is exported.
        card: model card in Markdown.
        kind: what the model computes.
        graph: module from normalised (B, C, H, W) images to one tensor: the tokens of an encoder, (B, T, D), the logits
            of a classifier, (B, K), or the scores of a segmenter, (B, K, H, W); None of a detector.
        image: channels, height and width of the images.
        normalize: module that converts uint8 images to normalised ones.
    """

    backbone: nn.Module
    architecture: str | None
    arguments: Mapping[str, Any]
    mean: Sequence[float]
    std: Sequence[float]
    crop_pct: float
    classes: Sequence[str]
    head: bool
    card: str
    kind: Kind = "encoder"
    graph: nn.Module | None = None
    image: tuple[int, int, int] = (3, 224, 224)
    normalize: nn.Module | None = None

    def state(self) -> dict[str, Tensor]:
        """Return the tensors of the backbone by timm's names, without a classifier that is not exported."""
        tensors = self.backbone.state_dict()
        return {name: value for name, value in tensors.items() if self.head or not name.startswith("head.")}


class ExportFormat(Protocol):
    """Interface of an export format."""

    def write(self, model: ExportedModel, output: Path) -> str:
        """Write the model to ``output``.

        Returns:
            Instructions for the user how to open it.

        Raises:
            ValueError: the format cannot represent the model, or the output exists.
        """
        ...


def check_empty(output: Path) -> None:
    """Raise ValueError unless the output does not exist or is an empty folder."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"output {str(output)!r} exists and is not an empty folder")


def check_backbone_alone(model: ExportedModel, library: str) -> None:
    """Raise ValueError for a segmenter or detector, which a format of a library cannot represent."""
    if model.kind in ("segmenter", "detector"):
        formats = "format=onnx and format=torch" if model.kind == "segmenter" else "conmim_lightning.load"
        raise ValueError(f"{library} has no {model.kind} of this architecture; use {formats}")


def largest_difference(given: Tensor, expected: Tensor, tolerance: float, what: str) -> float:
    """Return the largest difference of outputs.

    Args:
        given: what was exported gives.
        expected: what the model gives.
        tolerance: largest allowed difference, in units of the largest expected value, or of 1 if that is smaller.
        what: subject of the message.

    Raises:
        ValueError: the difference is too large, or not a number.
    """
    difference = float((given - expected).abs().max())
    allowed = tolerance * max(1.0, float(expected.abs().max()))
    if not difference <= allowed:
        raise ValueError(f"{what} differ by {difference:.2g}, more than {allowed:.2g}; it is not exported")
    return difference


def sha256_of(path: Path) -> str:
    """Return the SHA-256 digest of a file, as text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
