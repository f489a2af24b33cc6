import pytest
import torch
from torch.nn import functional as F

from conmim_lightning.models.linear_heads import LinearHeads


def test_each_head_learns_independently():
    """The sum of losses gives every head the gradient of its own loss."""
    features = {"a": torch.randn(6, 3), "b": torch.randn(6, 5)}
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    heads = LinearHeads({"a": 3, "b": 5}, [0.1, 0.5], 3)
    logits = heads(features)
    F.cross_entropy(logits.flatten(0, 1), labels.repeat(4), reduction="sum").backward()
    for index, (name, _) in enumerate(heads.settings):
        weight = heads.heads[index].weight.detach().requires_grad_()
        loss = F.cross_entropy(
            F.linear(features[name], weight, heads.heads[index].bias.detach()), labels, reduction="sum"
        )
        loss.backward()
        torch.testing.assert_close(heads.heads[index].weight.grad, weight.grad)
    assert [group["lr"] for group in heads.param_groups()] == [0.1, 0.5, 0.1, 0.5]
    assert heads.name(3) == "b, learning rate 0.5"
    torch.testing.assert_close(heads.forward_head(2, features), logits[2])


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_norms_remove_the_scale(norm):
    heads = LinearHeads({"a": 16}, [0.1], 3, norm)
    features = torch.randn(32, 16)
    torch.testing.assert_close(heads({"a": 100 * features}), heads({"a": features}), rtol=1e-3, atol=1e-4)
    assert not list(heads.norms.parameters())


@pytest.mark.parametrize(("learning_rates", "norm"), [([], "none"), ([0.1, -1.0], "none"), ([0.1], "group")])
def test_bad_settings(learning_rates, norm):
    with pytest.raises(ValueError, match="must be"):
        LinearHeads({"a": 3}, learning_rates, 3, norm)
