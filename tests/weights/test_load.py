import pytest
import torch
from conftest import beit

from conmim_lightning.weights.load import load_weights
from conmim_lightning.weights.read import Weights

CLASSIFIER = {"use_shared_rel_pos_bias": False, "use_rel_pos_bias": True, "global_pool": "avg"}


def weights_of(model, **arguments):
    return Weights(model.state_dict(), "elsewhere", arguments, None, None)


def test_pretrained_weights_become_a_classifier():
    """official: the final norm is left out, the norm after pooling and the head start anew."""
    source, target = beit(), beit(num_classes=5, **CLASSIFIER)
    before = target.head.weight.clone()
    left = load_weights(target, weights_of(source))
    assert left.missing == ["fc_norm.bias", "fc_norm.weight", "head.bias", "head.weight"]
    assert left.unexpected == ["norm.bias", "norm.weight"]
    assert torch.equal(target.head.weight, before)
    for name, value in source.blocks.state_dict().items():
        assert torch.equal(target.blocks.state_dict()[name], value)


def test_a_classifier_goes_back_in_whole():
    source, target = beit(num_classes=5, **CLASSIFIER), beit(num_classes=5, **CLASSIFIER)
    assert not load_weights(target, weights_of(source))
    assert all(torch.equal(value, target.state_dict()[name]) for name, value in source.state_dict().items())


def test_another_number_of_classes_is_refused_unless_told():
    source, target = beit(num_classes=7, **CLASSIFIER), beit(num_classes=5, **CLASSIFIER)
    before = target.head.weight.clone()
    with pytest.raises(
        ValueError, match=r"(?s)2 reshaped: .*head.bias \(7,\) instead of \(5,\).*backbone.allow=\[head\]"
    ):
        load_weights(target, weights_of(source))
    load_weights(target, weights_of(source), allow=["head"])
    assert torch.equal(target.head.weight, before)
    assert torch.equal(target.blocks[0].attn.qkv.weight, source.blocks[0].attn.qkv.weight)


def test_another_architecture_is_told_with_all_names():
    with pytest.raises(
        ValueError, match=r"(?s)elsewhere are of another architecture:\n  \d+ missing: .*blocks\.2.*"
    ) as told:
        load_weights(beit(depth=3), weights_of(beit(embed_dim=24)))
    assert "reshaped: " in str(told.value)
    assert "(1, 1, 24) instead of (1, 1, 16)" in str(told.value)


def test_heads_that_no_shape_shows():
    with pytest.raises(ValueError, match="num_heads 4 instead of 2"):
        load_weights(beit(), weights_of(beit(), num_heads=4))


def test_everything_may_be_allowed_but_not_nothing_at_all():
    load_weights(beit(depth=3), weights_of(beit()), allow=["*"])
    nothing = Weights({"other": torch.zeros(1)}, "elsewhere", {}, None, None)
    with pytest.raises(ValueError, match="nothing of elsewhere fits"):
        load_weights(beit(), nothing, allow=["*"])


def test_a_larger_grid_is_resized():
    target = beit(img_size=64)
    load_weights(target, weights_of(beit()))
    assert target.rel_pos_bias.relative_position_bias_table.shape == (15 * 15 + 3, 2)


def test_a_grid_that_cannot_be_resized():
    with pytest.raises(
        ValueError, match=r"rel_pos_bias.relative_position_bias_table cannot be resized: .* 4 x 8 patches"
    ):
        load_weights(beit(img_size=(32, 64)), weights_of(beit()))


def test_names_are_allowed_whole_and_as_a_list():
    with pytest.raises(ValueError, match=r"must be a list of names, such as \[head\], got the text 'head'"):
        load_weights(beit(), weights_of(beit()), allow="head")
    state = {name: value for name, value in beit().state_dict().items() if name != "cls_token"}
    lacking = Weights(state, "elsewhere", {}, None, None)
    with pytest.raises(ValueError, match="missing: cls_token"):
        load_weights(beit(), lacking, allow=["c", "cls"])
    load_weights(beit(), lacking, allow=["cls_token"])


def test_what_would_let_all_blocks_pass_is_not_advised():
    with pytest.raises(ValueError, match="another architecture") as told:
        load_weights(beit(depth=3), weights_of(beit()))
    assert "allow" not in str(told.value)


def test_a_fine_tuned_model_is_read_by_a_backbone_made_for_it():
    source = beit(num_classes=5, **CLASSIFIER)
    target = beit(use_shared_rel_pos_bias=False, use_rel_pos_bias=True)
    load_weights(target, weights_of(source), allow=["norm", "fc_norm", "head"])
    mine = target.blocks.state_dict()
    assert all(torch.equal(value, mine[name]) for name, value in source.blocks.state_dict().items())
