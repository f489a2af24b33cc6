import pytest
import torch
from torch.nn import functional as F

from conmim_lightning.models.attention_maps import attention_maps
from conmim_lightning.visualization.inputs import read_inputs
from conmim_lightning.visualization.maps import attention_panels, component_panels, similarity_panels


def test_attention_of_the_class_token_per_head(encoder, source):
    inputs, _ = read_inputs(encoder, source, 3)
    panels = attention_panels(encoder, inputs, layer=0)
    weights = attention_maps(encoder.backbone, inputs.images, 0)
    for row, expected in zip(panels, weights, strict=True):
        assert [panel.title for panel in row] == ["image", "head 0", "head 1"]
        for panel, head in zip(row[1:], expected, strict=True):
            assert torch.equal(panel.values.flatten(), head[0, 1:])
            assert panel.limits == (0.0, expected[:, 0, 1:].max().item()), "heads share a scale that starts at 0"


def test_attention_of_a_patch_and_chosen_heads(encoder, source):
    inputs, _ = read_inputs(encoder, source, 1)
    row = attention_panels(encoder, inputs, heads=[1], patch=[1, 2])[0]
    expected = attention_maps(encoder.backbone, inputs.images)[0, 1, 1 + 6, 1:]
    assert torch.equal(row[1].values.flatten(), expected)
    assert row[1].marks == [(1, 2)]
    with pytest.raises(ValueError, match=r"heads must be from 0 to 1, got \[2\]"):
        attention_panels(encoder, inputs, heads=[0, 2])


def test_similarity_in_the_same_and_the_next_image(encoder, source):
    inputs, _ = read_inputs(encoder, source, 2)
    tokens = F.normalize(encoder.patch_features(inputs.images), dim=-1)
    for index, row in enumerate(similarity_panels(encoder, inputs, patch=[3, 0])):
        same, other = row[1], row[2]
        assert same.values[3, 0].item() == pytest.approx(1, abs=1e-5)
        torch.testing.assert_close(other.values, tokens[1 - index] @ tokens[index, 3, 0])
        assert same.limits == other.limits
        assert same.limits[0] <= 0
        assert same.limits[1] >= 1
        assert torch.equal(other.image, inputs.shown[1 - index])


def test_one_image_has_no_next(encoder, source):
    inputs, _ = read_inputs(encoder, source, 1)
    assert [panel.title for panel in similarity_panels(encoder, inputs)[0]] == ["patch", "same image"]


def test_components_are_those_of_all_images(encoder, source):
    inputs, _ = read_inputs(encoder, source, 3)
    panels, fractions = component_panels(encoder, inputs)
    flat = encoder.patch_features(inputs.images).flatten(0, 2).double()
    values = torch.linalg.eigvalsh(flat.T.cov()).flip(0)
    torch.testing.assert_close(fractions, values[:3] / values.sum())
    colors = torch.stack([row[1].image for row in panels])
    assert colors.shape == (3, 4, 4, 3)
    assert colors.min() == 0
    assert colors.max() == 1, "one scale for all images"
    again, _ = component_panels(encoder, inputs)
    assert torch.equal(again[0][1].image, panels[0][1].image)
