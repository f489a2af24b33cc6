"""Models as graphs of operations, for formats that need no Python code of the model."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor, nn

from conmim_lightning.weights.exported import ExportedModel

Inputs = Literal["normalized", "uint8"]

OUTPUTS = {"encoder": "tokens", "classifier": "logits", "segmenter": "scores"}
"""Name of the output by kind of model."""

_TOLERANCE, _HALF_TOLERANCE = 1e-4, 3e-2  # in units of the largest output
_BATCHES = (1, 3)


class TokenGraph(nn.Module):
    """Tokens of a timm vision Transformer, (B, T, D).

    Args:
        backbone: timm model.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalised images."""
        return self.backbone.forward_features(images)  # type: ignore[operator]


class ScoreGraph(nn.Module):
    """Scores of a segmenter, (B, K, H, W).

    Args:
        model: segmenter.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Score normalised images."""
        return self.model(images).scores


class _Half(nn.Module):
    """A module in float16 with inputs and outputs in float32."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.half()

    def forward(self, images: Tensor) -> Tensor:
        return self.module(images.half()).float()


class Graph:
    """A module to trace, and a comparison of what was traced with it.

    Args:
        model: model to export.
        inputs: "normalized" images, float32; or "uint8" images, which the graph normalises. The images have the size
            of the model in both cases.
        half: whether weights and operations are float16; inputs and outputs stay float32.

    Raises:
        ValueError: the inputs are unknown, or the model is a detector.
    """

    def __init__(self, model: ExportedModel, inputs: Inputs, half: bool) -> None:
        if inputs not in ("normalized", "uint8"):
            raise ValueError(f"format.inputs must be normalized or uint8, got {inputs!r}")
        if model.graph is None or model.normalize is None:
            raise ValueError(
                "a detector is no graph of fixed operations, as its number of boxes depends on the image; use"
                " conmim_lightning.load"
            )
        self.inputs = inputs
        self.output = OUTPUTS[model.kind]
        self.image = model.image
        self.expected: list[tuple[Tensor, Tensor]] = []
        self.tolerance = _HALF_TOLERANCE if half else _TOLERANCE
        exact = self._with_inputs(model.graph, model.normalize)
        with torch.no_grad():  # before the weights are rounded; it also fills caches that must not be traced
            for batch in _BATCHES:
                images = self.example(batch)
                self.expected.append((images, exact(images)))
        self.module = self._with_inputs(_Half(model.graph) if half else model.graph, model.normalize)
        self.module.requires_grad_(False)

    def example(self, batch: int) -> Tensor:
        """Return reproducible images of the inputs' type."""
        generator = torch.Generator().manual_seed(batch)
        if self.inputs == "uint8":
            return torch.randint(0, 256, (batch, *self.image), dtype=torch.uint8, generator=generator)
        return torch.randn(batch, *self.image, generator=generator)

    def largest_difference(self, run: Callable[[Tensor], Tensor]) -> float:
        """Return the largest difference between a written file's outputs and the model's, for several batch sizes.

        Args:
            run: function that runs the file on images.

        Raises:
            ValueError: the difference is too large.
        """
        largest = 0.0
        for images, expected in self.expected:
            difference = float((run(images) - expected).abs().max())
            allowed = self.tolerance * max(1.0, float(expected.abs().max()))
            if not difference <= allowed:
                raise ValueError(f"the exported {self.output} differ by {difference:.2g}, more than {allowed:.2g}")
            largest = max(largest, difference)
        return largest

    def _with_inputs(self, module: nn.Module, normalize: nn.Module) -> nn.Module:
        return (nn.Sequential(normalize, module) if self.inputs == "uint8" else module).eval()


def check_file(output: Path, suffix: str) -> None:
    """Raise ValueError unless an output has a suffix and does not exist."""
    if output.suffix != suffix:
        raise ValueError(f"output {str(output)!r} must end in {suffix}")
    if output.exists():
        raise ValueError(f"output {str(output)!r} exists; remove it, or choose another one")


def describe(graph: Graph, difference: float) -> str:
    """Return what a written file takes and returns, and how it was compared."""
    channels, height, width = graph.image
    kind = "uint8" if graph.inputs == "uint8" else "normalised float32"
    return (
        f"images: (batch, {channels}, {height}, {width}) {kind}; {graph.output}: float32; largest difference from the"
        f" model: {difference:.2g}"
    )


def copied(module: nn.Module) -> nn.Module:
    """Return a copy of a module on the CPU in eval mode, whose weights may be rounded."""
    from copy import deepcopy

    return cast(nn.Module, deepcopy(module)).cpu().eval()
