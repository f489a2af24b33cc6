import pytest
import timm
import torch
from safetensors.torch import load_file

from conmim_lightning.models.backbones import info_of, vit_base
from conmim_lightning.weights.export_timm import TimmFolder
from conmim_lightning.weights.exported import ExportedModel


@pytest.mark.slow
def test_full_size_equals_timms_beit(tmp_path):
    """ViT-B/16 at 224 pixels: our fine-tuning forward against beit_base_patch16_224 with the exported weights."""
    ours = vit_base(shared_rel_pos_bias=False, num_classes=1000, global_pool="avg").eval()
    with torch.no_grad():
        for name, value in ours.named_parameters():
            if "bias_table" in name or name.endswith("_bias") or "head" in name:
                value.normal_(std=0.5)
    info, mean, std = info_of(ours), [0.5] * 3, [0.5] * 3
    model = ExportedModel(ours, info.architecture, info.arguments, mean, std, 1.0, [], True, "")
    TimmFolder().write(model, tmp_path / "out")
    timms = timm.create_model("beit_base_patch16_224", pretrained=False, num_classes=1000)
    timms.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"))
    images = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(timms.eval()(images), ours(images), rtol=1e-5, atol=1e-5)
