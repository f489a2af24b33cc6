"""Export to ONNX, checked with onnxruntime."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from conmim_lightning.files import replacing
from conmim_lightning.weights.exported import ExportedModel
from conmim_lightning.weights.graphs import Graph, Inputs, check_file, describe

_LARGEST = 1 << 31  # bytes of a file
_OPSETS = (18, 23)


class OnnxFile:
    """Export format: one ``.onnx`` with any batch size.

    Class names, mean and standard deviation are in the file's metadata.

    Args:
        opset: version of the operators, 18 to 23.
        inputs: "normalized" images, float32, or "uint8" images; of the model's size, so resized and cropped.
        half: whether weights and operations are float16.
        any_size: whether height and width may be any multiples of the patch size; absolute and rotary positions alone.
    """

    def __init__(
        self, *, opset: int = 18, inputs: Inputs = "normalized", half: bool = False, any_size: bool = False
    ) -> None:
        if not _OPSETS[0] <= opset <= _OPSETS[1]:
            raise ValueError(f"format.opset must lie in {_OPSETS[0]} to {_OPSETS[1]}, got {opset}")
        self.opset = opset
        self.inputs: Inputs = inputs
        self.half = half
        self.any_size = any_size

    def write(self, model: ExportedModel, output: Path) -> str:
        """Write the file, after comparing its outputs with the model's.

        Raises:
            ValueError: onnx is not installed, the output exists, the model is a detector or too large, or the outputs
                differ.
        """
        runtime = _onnxruntime()
        check_file(output, ".onnx")
        graph = Graph(model, self.inputs, self.half, any_size=self.any_size)
        size = sum(value.numel() * value.element_size() for value in graph.module.state_dict().values())
        if size >= _LARGEST:
            raise ValueError(
                f"an .onnx holds less than 2 GiB, the weights have {size / 2**30:.1f}; set format.half=true"
            )
        program: Any = torch.onnx.export(
            graph.module,
            (graph.traced_example(),),
            dynamo=True,
            dynamic_shapes=graph.dynamic_shapes,
            input_names=["images"],
            output_names=[graph.output],
            opset_version=self.opset,
            verbose=False,
        )
        facts = {"classes": list(model.classes), "mean": list(model.mean), "std": list(model.std)}
        program.model.metadata_props.update({name: json.dumps(value) for name, value in facts.items()})
        with replacing(output) as temporary:
            program.save(str(temporary))
            session = runtime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
            difference = graph.largest_difference(lambda images: _run(session, images))
        return (
            f'onnxruntime.InferenceSession("{output}").run(None, {{"images": images}})\n'
            f"opset {self.opset}; {describe(graph, difference)}"
        )


def _run(session: Any, images: Tensor) -> Tensor:
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def _onnxruntime() -> Any:
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(
            "format=onnx needs onnx, onnxscript and onnxruntime: pip install 'conmim-lightning[onnx]'"
        ) from error
    onnxruntime.set_default_logger_severity(3)  # errors alone
    return onnxruntime
