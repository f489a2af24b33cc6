import pytest
import torch
from exported_models import SMALL, exported_model

from conmim_lightning.models.backbones import vit
from conmim_lightning.weights.export_torch import TorchProgram


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("inputs", ["normalized", "uint8"])
def test_outputs_of_any_batch(tmp_path, classes, inputs):
    model = exported_model(classes=classes)
    text = TorchProgram(inputs=inputs).write(model, tmp_path / "x.pt2")
    assert f'torch.export.load("{tmp_path}/x.pt2").module()(images)' in text
    program = torch.export.load(tmp_path / "x.pt2").module()
    for batch in (1, 4):
        images = torch.randint(0, 256, (batch, 3, 32, 32), dtype=torch.uint8)
        normalized = model.normalize(images)
        with torch.no_grad():
            expected = model.graph(normalized)
            outputs = program(images if inputs == "uint8" else normalized)
        torch.testing.assert_close(outputs, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("positions", ["absolute", "rotary"])
def test_images_of_any_size(tmp_path, positions):
    model = exported_model(positions=positions, shared_rel_pos_bias=False)
    text = TorchProgram(any_size=True).write(model, tmp_path / "x.pt2")
    assert "(batch, 3, a multiple of 8, a multiple of 8)" in text
    program = torch.export.load(tmp_path / "x.pt2").module()
    larger = vit(**(SMALL | {"positions": positions, "timm_args": {"dynamic_img_size": True}})).eval()
    larger.load_state_dict(model.backbone.state_dict())
    for size in ((32, 32), (64, 24)):
        images = torch.randn(2, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(program(images), larger.forward_features(images), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match=r"belong to one size of images; set format\.any_size=false"):
        TorchProgram(any_size=True).write(exported_model(), tmp_path / "y.pt2")


def test_halves_are_smaller(tmp_path):
    model = exported_model(embed_dim=128)
    TorchProgram().write(model, tmp_path / "x.pt2")
    TorchProgram(half=True).write(model, tmp_path / "y.pt2")
    assert (tmp_path / "y.pt2").stat().st_size < 0.7 * (tmp_path / "x.pt2").stat().st_size
