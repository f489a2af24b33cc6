"""Models as graphs of operations, for formats that need no Python code of the model."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, cast

import timm
import torch
from torch import Tensor, nn

from conmim_lightning.weights.export_timm import recipe
from conmim_lightning.weights.exported import ExportedModel, largest_difference

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
        any_size: whether height and width may be any multiples of the patch size.

    Raises:
        ValueError: the inputs are unknown, the model is a detector, or its positions belong to one size.
    """

    def __init__(self, model: ExportedModel, inputs: Inputs, half: bool, *, any_size: bool = False) -> None:
        if inputs not in ("normalized", "uint8"):
            raise ValueError(f"format.inputs must be normalized or uint8, got {inputs!r}")
        if model.graph is None:
            raise ValueError(
                "a detector is no graph of fixed operations, as its number of boxes depends on the image; use"
                " conmim_lightning.load"
            )
        self.inputs = inputs
        self.image = model.image
        self.output = OUTPUTS[model.kind]
        self.normalize = model.normalize
        self.tolerance = _HALF_TOLERANCE if half else _TOLERANCE
        self.patch_size = 0
        graph = deepcopy(model.graph).cpu()  # tracing fills its caches, and half rounds its weights
        self.expected = [self._run(graph, self.example(batch)) for batch in _BATCHES]
        if any_size:
            graph = _of_any_size(model)
            self.patch_size = int(cast(Any, model.backbone).patch_embed.patch_size[0])
            self.expected.append(self._run(graph, self.traced_example()))
        self.module = self._with_inputs(_Half(graph) if half else graph).requires_grad_(False)

    @property
    def dynamic_shapes(self) -> tuple[dict[int, Any]]:
        """The dimensions that may vary, for torch's exporters."""
        dims: dict[int, Any] = {0: torch.export.Dim("batch")}
        if self.patch_size:
            rows, columns = (torch.export.Dim(name, min=2, max=1024) for name in ("rows", "columns"))
            dims |= {2: self.patch_size * rows, 3: self.patch_size * columns}
        return (dims,)

    def example(self, batch: int, larger: int = 0) -> Tensor:
        """Return reproducible images of the inputs' type, ``larger`` pixels wider, and half as much higher."""
        generator = torch.Generator().manual_seed(batch)
        channels, height, width = self.image
        shape = (batch, channels, height + larger // 2, width + larger)
        if self.inputs == "uint8":
            return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        return torch.randn(shape, generator=generator)

    def traced_example(self) -> Tensor:
        """Return the images to trace with; sides that may vary differ, so that they are not taken for one."""
        return self.example(2, larger=2 * self.patch_size)

    def largest_difference(self, run: Callable[[Tensor], Tensor]) -> float:
        """Return the largest difference between a written file's outputs and the model's, for several batch sizes.

        Args:
            run: function that runs the file on images.

        Raises:
            ValueError: the difference is too large.
        """
        what = f"the exported {self.output}"
        return max(
            largest_difference(run(images), expected, self.tolerance, what) for images, expected in self.expected
        )

    def _with_inputs(self, module: nn.Module) -> nn.Module:
        if self.inputs == "uint8" and self.normalize is not None:
            module = nn.Sequential(self.normalize, module)
        return module.eval()

    @torch.no_grad()
    def _run(self, graph: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return images and the model's outputs, before its weights are rounded."""
        return images, self._with_inputs(graph)(images)


def _of_any_size(model: ExportedModel) -> nn.Module:
    """Return the graph of a model that takes images of any size, with the same weights.

    Raises:
        ValueError: the positions belong to one size.
    """
    if model.kind == "segmenter" or not hasattr(model.backbone, "dynamic_img_size"):
        raise ValueError("tables of positions belong to one size of images; set format.any_size=false")
    architecture, arguments = recipe(model)
    settings: dict[str, Any] = {**arguments, "dynamic_img_size": True}
    backbone = timm.create_model(architecture, pretrained=False, **settings).eval()
    backbone.load_state_dict(model.state())
    return TokenGraph(backbone) if model.kind == "encoder" else backbone


def check_file(output: Path, suffix: str) -> None:
    """Raise ValueError unless an output has a suffix and does not exist."""
    if output.suffix != suffix:
        raise ValueError(f"output {str(output)!r} must end in {suffix}")
    if output.exists():
        raise ValueError(f"output {str(output)!r} exists; remove it, or choose another one")


def describe(graph: Graph, difference: float) -> str:
    """Return what a written file takes and returns, and how it was compared."""
    channels, height, width = graph.image
    if graph.patch_size:
        height, width = (f"a multiple of {graph.patch_size}" for _ in range(2))
    kind = "uint8" if graph.inputs == "uint8" else "normalised float32"
    return (
        f"images: (batch, {channels}, {height}, {width}) {kind}; {graph.output}: float32; largest difference from the"
        f" model: {difference:.2g}"
    )
