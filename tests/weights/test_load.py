import pytest
import torch
from conftest import beit

from conmim_lightning.weights.load import load_weights
from conmim_lightning.weights.read import Weights

CLASSIFIER = {"use_shared_rel_pos_bias": False, "use_rel_pos_bias": True, "global_pool": "avg"}


def weights_of(model, **arguments):
    return Weights(model.state_dict(), "elsewhere", arguments, None, None)


def test_pretrained_weights_become_a_classifier():
    """official: the final norm is left out, the norm after pooling and the head are initialised."""
    source, target = beit(), beit(num_classes=5, **CLASSIFIER)
    before = target.head.weight.clone()
    difference = load_weights(target, weights_of(source))
    assert difference.missing == ["fc_norm.bias", "fc_norm.weight", "head.bias", "head.weight"]
    assert difference.unexpected == ["norm.bias", "norm.weight"]
    assert torch.equal(target.head.weight, before)
    for name, value in source.blocks.state_dict().items():
        assert torch.equal(target.blocks.state_dict()[name], value)


def test_a_classifier_goes_back_in_whole():
    source, target = beit(num_classes=5, **CLASSIFIER), beit(num_classes=5, **CLASSIFIER)
    assert not load_weights(target, weights_of(source))
    assert all(torch.equal(value, target.state_dict()[name]) for name, value in source.state_dict().items())


def test_another_number_of_classes_must_be_allowed():
    source, target = beit(num_classes=7, **CLASSIFIER), beit(num_classes=5, **CLASSIFIER)
    before = target.head.weight.clone()
    with pytest.raises(
        ValueError, match=r"(?s)2 reshaped: .*head.bias \(7,\) instead of \(5,\).*backbone.allow_mismatch=\[head\]"
    ):
        load_weights(target, weights_of(source))
    load_weights(target, weights_of(source), allow_mismatch=["head"])
    assert torch.equal(target.head.weight, before)
    assert torch.equal(target.blocks[0].attn.qkv.weight, source.blocks[0].attn.qkv.weight)


def test_another_architecture_lists_all_names():
    with pytest.raises(
        ValueError, match=r"(?s)elsewhere are of another architecture:\n  \d+ missing: .*blocks\.2.*"
    ) as caught:
        load_weights(beit(depth=3), weights_of(beit(embed_dim=24)))
    assert "reshaped: " in str(caught.value)
    assert "(1, 1, 24) instead of (1, 1, 16)" in str(caught.value)


def test_number_of_heads_is_compared():
    with pytest.raises(ValueError, match="num_heads 4 instead of 2"):
        load_weights(beit(), weights_of(beit(), num_heads=4))


def test_everything_may_be_allowed_unless_nothing_fits():
    load_weights(beit(depth=3), weights_of(beit()), allow_mismatch=["*"])
    unrelated = Weights({"other": torch.zeros(1)}, "elsewhere", {}, None, None)
    with pytest.raises(ValueError, match="nothing of elsewhere fits"):
        load_weights(beit(), unrelated, allow_mismatch=["*"])


def test_a_larger_grid_is_resized():
    target = beit(img_size=64)
    load_weights(target, weights_of(beit()))
    assert target.rel_pos_bias.relative_position_bias_table.shape == (15 * 15 + 3, 2)


def test_a_grid_that_cannot_be_resized():
    with pytest.raises(
        ValueError, match=r"rel_pos_bias.relative_position_bias_table cannot be resized: .* 4 x 8 patches"
    ):
        load_weights(beit(img_size=(32, 64)), weights_of(beit()))


def test_allowed_names_are_whole_and_in_a_list():
    with pytest.raises(ValueError, match=r"must be a list such as \[head\], got 'head'"):
        load_weights(beit(), weights_of(beit()), allow_mismatch="head")
    state = {name: value for name, value in beit().state_dict().items() if name != "cls_token"}
    lacking = Weights(state, "elsewhere", {}, None, None)
    with pytest.raises(ValueError, match="missing: cls_token"):
        load_weights(beit(), lacking, allow_mismatch=["c", "cls"])
    load_weights(beit(), lacking, allow_mismatch=["cls_token"])


def test_no_advice_to_allow_all_blocks():
    with pytest.raises(ValueError, match="another architecture") as caught:
        load_weights(beit(depth=3), weights_of(beit()))
    assert "allow" not in str(caught.value)


def test_a_fine_tuned_model_is_read_by_a_backbone_made_for_it():
    source = beit(num_classes=5, **CLASSIFIER)
    target = beit(use_shared_rel_pos_bias=False, use_rel_pos_bias=True)
    load_weights(target, weights_of(source), allow_mismatch=["norm", "fc_norm", "head"])
    loaded = target.blocks.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in source.blocks.state_dict().items())
