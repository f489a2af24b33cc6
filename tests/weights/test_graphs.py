import pytest
import torch
from exported_models import exported_model

from conmim_lightning.weights.graphs import Graph, check_file, describe


def test_inputs():
    model = exported_model()
    raw, normalized = Graph(model, "uint8", half=False), Graph(model, "normalized", half=False)
    images = raw.example(2)
    assert images.dtype == torch.uint8
    torch.testing.assert_close(raw.module(images), normalized.module(model.normalize(images)))
    assert raw.output == "tokens"
    with pytest.raises(ValueError, match=r"format\.inputs must be normalized or uint8, got 'png'"):
        Graph(model, "png", half=False)


def test_half_is_compared_with_whole_weights():
    model = exported_model()
    graph = Graph(model, "normalized", half=True)
    assert {value.dtype for value in graph.module.parameters()} == {torch.float16}
    assert 0 < graph.largest_difference(graph.module) < 0.1
    assert {value.dtype for value in model.backbone.parameters()} == {torch.float32}, "the model itself stays"


def test_a_file_that_computes_something_else():
    graph = Graph(exported_model(), "normalized", half=False)
    assert graph.largest_difference(graph.module) == 0
    with pytest.raises(ValueError, match=r"the exported tokens differ by 0\.5, more than"):
        graph.largest_difference(lambda images: graph.module(images) + 0.5)
    with pytest.raises(ValueError, match="differ by nan"):
        graph.largest_difference(lambda images: graph.module(images) * torch.nan)
    assert describe(graph, 1.5e-6) == (
        "images: (batch, 3, 32, 32) normalised float32; tokens: float32; largest difference from the model: 1.5e-06"
    )


def test_a_detector_is_no_graph():
    with pytest.raises(ValueError, match=r"number of boxes depends on the image; use conmim_lightning.load"):
        Graph(exported_model()._replace(kind="detector", graph=None), "normalized", half=False)


def test_outputs(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.onnx"):
        check_file(tmp_path / "x.pt2", ".onnx")
    (tmp_path / "x.onnx").touch()
    with pytest.raises(ValueError, match="exists; remove it"):
        check_file(tmp_path / "x.onnx", ".onnx")
