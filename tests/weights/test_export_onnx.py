import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from exported_models import MEAN, SMALL, exported_model

from conmim_lightning.models.backbones import vit
from conmim_lightning.weights.export_onnx import OnnxFile
from conmim_lightning.weights.graphs import Graph


def run(path, images: torch.Tensor) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images.numpy()})[0]


@pytest.mark.parametrize("positions", ["relative", "absolute", "rotary"])
def test_tokens_of_any_batch(tmp_path, positions):
    model = exported_model(positions=positions, shared_rel_pos_bias=positions == "relative")
    text = OnnxFile().write(model, tmp_path / "x.onnx")
    assert "opset 18; images: (batch, 3, 32, 32) normalised float32; tokens: float32; largest difference" in text
    for batch in (1, 5):
        images = torch.randn(batch, 3, 32, 32)
        with torch.no_grad():
            expected = model.backbone.forward_features(images)
        np.testing.assert_allclose(run(tmp_path / "x.onnx", images), expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("positions", ["absolute", "rotary"])
def test_images_of_any_size(tmp_path, positions):
    model = exported_model(positions=positions, shared_rel_pos_bias=False)
    OnnxFile(any_size=True).write(model, tmp_path / "x.onnx")
    larger = vit(**(SMALL | {"positions": positions, "timm_args": {"dynamic_img_size": True}})).eval()
    larger.load_state_dict(model.backbone.state_dict())
    for size in ((32, 32), (64, 24)):
        images = torch.randn(2, 3, *size)
        with torch.no_grad():
            expected = larger.forward_features(images)
        np.testing.assert_allclose(run(tmp_path / "x.onnx", images), expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("half", [False, True])
def test_a_classifier_of_raw_images(tmp_path, half):
    model = exported_model(classes=3)
    OnnxFile(inputs="uint8", half=half, opset=20).write(model, tmp_path / "x.onnx")
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        expected = model.backbone(model.normalize(images))
    np.testing.assert_allclose(run(tmp_path / "x.onnx", images), expected.numpy(), atol=5e-2 if half else 1e-4)
    stored = onnx.load(tmp_path / "x.onnx")
    facts = {entry.key: json.loads(entry.value) for entry in stored.metadata_props}
    assert (facts["classes"], facts["mean"]) == (["class 0", "class 1", "class 2"], MEAN)
    assert stored.opset_import[0].version == 20
    kinds = {tensor.data_type for tensor in stored.graph.initializer if len(tensor.dims) == 2}
    assert kinds == {onnx.TensorProto.FLOAT16 if half else onnx.TensorProto.FLOAT}


class Noise(torch.nn.Module):
    """Outputs that differ at each call."""

    def forward(self, images):
        return images + torch.rand_like(images)


def test_a_file_that_differs_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(Graph, "_with_inputs", lambda self, module: Noise().eval())
    with pytest.raises(ValueError, match="the exported tokens differ"):
        OnnxFile().write(exported_model(), tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_what_it_cannot_write(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"format\.opset must lie in 18 to 23, got 12"):
        OnnxFile(opset=12)
    monkeypatch.setattr("conmim_lightning.weights.export_onnx._LARGEST", 1000)
    with pytest.raises(ValueError, match=r"an \.onnx holds less than 2 GiB"):
        OnnxFile().write(exported_model(), tmp_path / "x.onnx")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ValueError, match=r"format=onnx needs onnx, .* pip install 'conmim-lightning\[onnx\]'"):
        OnnxFile().write(exported_model(), tmp_path / "x.onnx")
