import math

import pytest
import torch

from conmim_lightning.losses.hidden_patches import hidden_patch_indices
from conmim_lightning.losses.patch_info_nce import PatchInfoNCE


def batch(images=3, patches=6, width=5, seed=0):
    random = torch.Generator().manual_seed(seed)
    queries, keys = (torch.randn(images, patches, width, generator=random, dtype=torch.float64) for _ in range(2))
    mask = torch.rand(images, patches, generator=random) < 0.5
    mask[:, 0] = True
    return queries, keys, mask


def naive(queries, keys, mask, temperature, dictionary="image", threshold=None):
    """The definition, a patch at a time, in plain Python."""

    def unit(vector):
        return [float(x) / math.sqrt(sum(float(y) ** 2 for y in vector)) for x in vector]

    def dot(one, other):
        return sum(a * b for a, b in zip(one, other, strict=True))

    losses = []
    for b in range(len(queries)):
        for j in range(queries.shape[1]):
            if not mask[b, j]:
                continue
            images = [b] if dictionary == "image" else range(len(keys))
            candidates = {(c, i): unit(keys[c, i]) for c in images for i in range(keys.shape[1])}
            own, query = candidates[b, j], unit(queries[b, j])
            kept = [
                place
                for place, key in candidates.items()
                if place == (b, j) or threshold is None or dot(key, own) <= threshold
            ]
            total = sum(math.exp(dot(query, candidates[place]) / temperature) for place in kept)
            losses.append(math.log(total) - dot(query, own) / temperature)
    return sum(losses) / len(losses)


def test_hand_worked():
    # Two patches, the first hidden; q = k_0 = (1, 0), k_1 = (0, 1): -log(e^2 / (e^2 + 1)) at temperature 1/2.
    queries = torch.tensor([[[3.0, 0.0], [1.0, 1.0]]])
    keys = torch.tensor([[[1.0, 0.0], [0.0, 7.0]]])
    loss = PatchInfoNCE(temperature=0.5)(queries, keys, torch.tensor([[True, False]]))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-6)


@pytest.mark.parametrize("dictionary", ["image", "device"])
@pytest.mark.parametrize("threshold", [None, 0.2])
def test_equals_naive_twin(dictionary, threshold):
    queries, keys, mask = batch()
    loss = PatchInfoNCE(temperature=0.1, dictionary=dictionary, similarity_filter=threshold)
    assert loss(queries, keys, mask).item() == pytest.approx(
        naive(queries, keys, mask, 0.1, dictionary, threshold), rel=1e-12
    )


def test_filter_matters():
    queries, keys, mask = batch()
    assert PatchInfoNCE(similarity_filter=0.2)(queries, keys, mask) < PatchInfoNCE()(queries, keys, mask)


def test_identical_keys_give_ln_k():
    queries, keys, mask = batch(patches=7)
    keys = keys[:, :1].expand_as(keys)
    assert PatchInfoNCE()(queries, keys, mask).item() == pytest.approx(math.log(7), rel=1e-12)


def test_permuting_all_patches_jointly_changes_nothing():
    queries, keys, mask = batch()
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    loss = PatchInfoNCE()
    assert loss(queries[:, order], keys[:, order], mask[:, order]).item() == pytest.approx(
        loss(queries, keys, mask).item(), rel=1e-12
    )


def test_keys_of_another_image_have_no_effect():
    queries, keys, mask = batch()
    mask[1:] = False
    before = PatchInfoNCE()(queries, keys, mask)
    keys[1:] = 5 * torch.randn_like(keys[1:])
    assert PatchInfoNCE()(queries, keys, mask).item() == before.item()


def test_lengths_have_no_effect():
    queries, keys, mask = batch()
    assert PatchInfoNCE()(3 * queries, 0.2 * keys, mask).item() == pytest.approx(
        PatchInfoNCE()(queries, keys, mask).item(), rel=1e-12
    )


def test_gradient_reaches_hidden_queries_only():
    queries, keys, mask = batch()
    queries.requires_grad_(True)
    keys.requires_grad_(True)
    PatchInfoNCE()(queries, keys, mask).backward()
    assert keys.grad is None
    assert queries.grad is not None
    assert (queries.grad[~mask] == 0).all()
    assert (queries.grad[mask].abs().sum(1) > 0).all()


def test_half_precision_inputs_are_computed_in_float32():
    queries, keys, mask = (x.bfloat16() if x.is_floating_point() else x for x in batch())
    with torch.autocast("cpu", torch.bfloat16):
        loss = PatchInfoNCE()(queries, keys, mask)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(PatchInfoNCE()(queries.double(), keys.double(), mask).item(), rel=1e-5)


def test_mask_may_be_a_grid():
    queries, keys, mask = batch()
    assert PatchInfoNCE()(queries, keys, mask.view(3, 2, 3)) == PatchInfoNCE()(queries, keys, mask)


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ({"temperature": 0}, "0"),
        ({"temperature": float("nan")}, "nan"),
        ({"dictionary": "queue"}, "queue"),
        ({"similarity_filter": 1.5}, "1.5"),
    ],
)
def test_bad_arguments(arguments, value):
    with pytest.raises(ValueError, match=value):
        PatchInfoNCE(**arguments)


def test_shapes_that_disagree():
    queries, keys, mask = batch()
    with pytest.raises(ValueError, match=r"\(3, 5\)"):
        PatchInfoNCE()(queries, keys, mask[:, :5])


@pytest.mark.parametrize("dictionary", ["image", "device"])
def test_only_hidden_patches_enter(dictionary):
    queries, keys, mask = batch()
    queries.requires_grad_()
    loss = PatchInfoNCE(dictionary=dictionary)
    value = loss(queries, keys, mask, hidden_patch_indices(mask))
    value.backward()
    assert (queries.grad[~mask] == 0).all()
    assert (queries.grad[mask] != 0).any(1).all()
    everything = torch.arange(mask.shape[1]).expand_as(mask)
    assert loss(queries, keys, mask, everything).item() == pytest.approx(value.item(), rel=1e-12)
