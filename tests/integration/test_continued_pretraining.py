"""Pre-training from the weights of others begins at their features."""

import pytest
import torch
import transformers
from downstream_runs import configure
from hydra.utils import instantiate
from timm.models.vision_transformer import VisionTransformer

from conmim_lightning.config.check import check
from conmim_lightning.export import run as export
from conmim_lightning.train import run as train

QUIET = ["~callbacks.probe", "~callbacks.report"]
SIZES = ["backbone.depth=2", "backbone.embed_dim=16", "backbone.num_heads=2", "task.model.locality=0"]


def of_mae(folder):
    """A file of MAE: absolute positions, no layer scale, a decoder beside the encoder."""
    model = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2, num_classes=0, global_pool="token"
    ).eval()
    decoder = {"mask_token": torch.ones(1, 1, 8), "decoder_embed.weight": torch.ones(8, 16)}
    torch.save({"model": dict(model.state_dict()) | decoder}, folder / "mae.pth")
    own = ["backbone.positions=absolute", "backbone.init_values=null"]
    return folder / "mae.pth", own, model.forward_features


def of_transformers(folder):
    """A BEiT of transformers with one shared table of relative positions."""
    config = transformers.BeitConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8,
        use_shared_relative_position_bias=True, use_mean_pooling=False, layer_norm_eps=1e-6,
    )  # fmt: skip
    model = transformers.BeitModel(config).eval()
    model.save_pretrained(folder / "beit")
    return folder / "beit", [], lambda images: model(images).last_hidden_state


SOURCES = {"MAE": of_mae, "transformers": of_transformers}


@pytest.mark.parametrize("source", SOURCES)
def test_the_first_features_are_those_of_the_weights(composed, tiny, tmp_path, source):
    weights, own, tokens_of = SOURCES[source](tmp_path)
    own = [*own, *SIZES, f"backbone.weights={weights}"]
    task = instantiate(check(composed("experiment=quickstart", *tiny, *own))["task"]).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = tokens_of(images)[:, 1:]
        torch.testing.assert_close(task(images), expected, atol=1e-5, rtol=1e-5)
        student = task.model.student.encoder.patch_tokens(images)
        torch.testing.assert_close(student, expected, atol=1e-5, rtol=1e-5)
    trainer = train(composed("experiment=quickstart", *tiny, *own, "debug=two_steps", *QUIET))
    assert trainer.global_step == 2


def test_an_exported_folder_of_transformers_comes_back(composed, tiny, tmp_path):
    train(composed("experiment=quickstart", *tiny, *SIZES, "debug=two_steps", *QUIET))
    run = tmp_path / "run"
    export(configure("export", tmp_path, f"checkpoint={run}", f"output={tmp_path}/hf", "format=huggingface"))
    images = torch.randn(2, 3, 32, 32)
    features = []
    for weights in (run, tmp_path / "hf"):
        config = check(composed("experiment=quickstart", *tiny, *SIZES, f"backbone.weights={weights}"))
        with torch.no_grad():
            features.append(instantiate(config["task"]).eval()(images))
    torch.testing.assert_close(*features, atol=1e-5, rtol=1e-5)
