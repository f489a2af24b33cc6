import pytest
import torch

from conmim_lightning.models.projector import Projector


def test_layers_are_the_official_ones():
    projector = Projector(in_dim=8)
    kinds = [type(layer).__name__ for layer in projector.layers]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d"]
    shapes = [tuple(layer.weight.shape) for layer in projector.layers if isinstance(layer, torch.nn.Linear)]
    assert shapes == [(4096, 8), (4096, 4096), (256, 4096)]
    assert all(layer.bias is None for layer in projector.layers if isinstance(layer, torch.nn.Linear))
    assert not projector.layers[-1].affine


def test_statistics_are_over_all_tokens():
    projected = Projector(in_dim=8, hidden_dim=16, out_dim=4)(torch.randn(3, 5, 8))
    assert projected.shape == (3, 5, 4)
    torch.testing.assert_close(projected.mean((0, 1)), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        projected.var((0, 1), correction=0), torch.ones(4), atol=0.1, rtol=0
    )  # eps has an effect


def test_bad_width():
    with pytest.raises(ValueError, match="positive, got 8, 0, 4"):
        Projector(in_dim=8, hidden_dim=0, out_dim=4)
