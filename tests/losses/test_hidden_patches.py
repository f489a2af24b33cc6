import pytest
import torch

from conmim_lightning.losses.hidden_patches import (
    at_least_float32,
    check_patches,
    gather_patches,
    hidden_patch_indices,
    mean_over_hidden,
)


def test_hidden_first():
    mask = torch.tensor([[False, True, False, True, True], [False, False, False, False, True]])
    indices = hidden_patch_indices(mask)
    assert indices.tolist() == [[1, 3, 4], [4, 0, 1]], "the second image has but one: two visible ones follow"
    assert torch.equal(hidden_patch_indices(mask, 3), indices)
    assert hidden_patch_indices(mask[:, :1]).shape == (2, 1), "at least one, though nothing is hidden"


def test_mean_over_hidden_leaves_out_what_fills_up():
    mask = torch.tensor([[True, True, False], [False, False, True]])
    indices = hidden_patch_indices(mask)
    tokens = torch.tensor([[[1.0], [2.0], [50.0]], [[50.0], [50.0], [6.0]]])
    assert mean_over_hidden(gather_patches(tokens, indices)[..., 0], mask, indices).item() == 3.0


def test_shapes_that_do_not_agree_are_named():
    mask, tokens = torch.ones(2, 4, dtype=torch.bool), torch.zeros(2, 4, 6)
    check_patches(mask, first=tokens, second=tokens)
    with pytest.raises(ValueError, match=r"first \(2, 4, 6\), second \(2, 4, 5\) and mask \(2, 4\) do not agree"):
        check_patches(mask, first=tokens, second=tokens[..., :5])
    with pytest.raises(ValueError, match=r"mask \(2, 3\) do not agree"):
        check_patches(mask[:, :3], first=tokens)


def test_precision():
    assert at_least_float32(torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert at_least_float32(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64
