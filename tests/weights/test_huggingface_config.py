import pytest

from conmim_lightning.models.backbones import vit
from conmim_lightning.weights.huggingface_config import backbone_arguments, class_names

BEIT = {
    "model_type": "beit", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32,
    "patch_size": 8, "intermediate_size": 64, "use_relative_position_bias": True, "use_mean_pooling": True,
}  # fmt: skip
LABELS = {"architectures": ["BeitForImageClassification"], "id2label": {"1": "dog", "0": "cat", "10": "cow"}}


def test_the_classes_of_a_classifier():
    assert class_names(LABELS) == ["cat", "dog", "cow"]
    assert class_names(LABELS | {"architectures": ["BeitModel"]}) == []
    assert backbone_arguments(BEIT | LABELS)["num_classes"] == 3


def test_the_backbone_has_the_widths_of_the_configuration():
    model = vit(**backbone_arguments(BEIT))
    assert model.blocks[0].mlp.fc1.out_features == 64
    assert model.norm.__class__.__name__ == "Identity", "mean pooling has its own norm"
    assert model.blocks[0].norm1.eps == 1e-12
    assert backbone_arguments({"model_type": "vit"})["embed_dim"] == 768
    assert backbone_arguments({"model_type": "dinov2", "layerscale_value": 0.5})["init_values"] == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "swin"}, "model_type 'swin' of transformers is not read; allowed are beit, vit and dinov2"),
        ({"hidden_act": "silu"}, "only plain blocks with GELU are read"),
        ({"model_type": "dinov2", "use_swiglu_ffn": True}, "only plain blocks with GELU are read"),
        ({"use_relative_position_bias": False}, "a BEiT without relative positions is not read"),
    ],
)
def test_what_is_not_read(changes, message):
    with pytest.raises(ValueError, match=message):
        backbone_arguments(BEIT | changes)
