"""Export to a program of ``torch.export``, which torch runs without the model's code."""

from pathlib import Path

import torch

from conmim_lightning.files import replacing
from conmim_lightning.weights.exported import ExportedModel
from conmim_lightning.weights.graphs import Graph, Inputs, check_file, describe


class TorchProgram:
    """Export format: one ``.pt2`` with any batch size.

    Args:
        inputs: "normalized" images, float32, or "uint8" images; of the model's size, so resized and cropped.
        half: whether weights and operations are float16.
        any_size: whether height and width may be any multiples of the patch size; absolute and rotary positions alone.
    """

    def __init__(self, *, inputs: Inputs = "normalized", half: bool = False, any_size: bool = False) -> None:
        self.inputs: Inputs = inputs
        self.half = half
        self.any_size = any_size

    def write(self, model: ExportedModel, output: Path) -> str:
        """Write the file, after comparing its outputs with the model's.

        Raises:
            ValueError: the output exists, the model is a detector, or the outputs differ.
        """
        check_file(output, ".pt2")
        graph = Graph(model, self.inputs, self.half, any_size=self.any_size)
        program = torch.export.export(graph.module, (graph.traced_example(),), dynamic_shapes=graph.dynamic_shapes)
        with replacing(output) as temporary:
            torch.export.save(program, temporary)
            written = torch.export.load(temporary).module()
            difference = graph.largest_difference(written)
        return f'torch.export.load("{output}").module()(images)\n{describe(graph, difference)}'
