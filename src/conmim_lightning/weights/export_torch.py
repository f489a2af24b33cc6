"""Export to a program of ``torch.export``, which torch runs without the model's code."""

from pathlib import Path

import torch

from conmim_lightning.files import replacing
from conmim_lightning.weights.exported import ExportedModel
from conmim_lightning.weights.graphs import Graph, Inputs, check_file, copied, describe


class TorchProgram:
    """Export format: one ``.pt2`` with any batch size and a fixed image size.

    Args:
        inputs: "normalized" images, float32, or "uint8" images; of the model's size, so resized and cropped.
        half: whether weights and operations are float16.
    """

    def __init__(self, *, inputs: Inputs = "normalized", half: bool = False) -> None:
        self.inputs: Inputs = inputs
        self.half = half

    def write(self, model: ExportedModel, output: Path) -> str:
        """Write the file, after comparing its outputs with the model's.

        Raises:
            ValueError: the output exists, the model is a detector, or the outputs differ.
        """
        check_file(output, ".pt2")
        copy = model._replace(graph=None if model.graph is None else copied(model.graph))
        graph = Graph(copy, self.inputs, self.half)
        program = torch.export.export(
            graph.module, (graph.example(2),), dynamic_shapes=({0: torch.export.Dim("batch")},)
        )
        with replacing(output) as temporary:
            torch.export.save(program, temporary)
            written = torch.export.load(temporary).module()
            difference = graph.largest_difference(written)
        return f'torch.export.load("{output}").module()(images)\n{describe(graph, difference)}'
