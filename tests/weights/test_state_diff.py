import torch

from conmim_lightning.weights.state_diff import state_diff


def test_differences_are_counted_and_named():
    model = {"a": torch.zeros(2, 3), "b": torch.zeros(1), "c": torch.zeros(1)}
    weights = {"a": torch.zeros(3, 2), "b": torch.zeros(1), "d": torch.zeros(1)}
    summary = state_diff(model, weights).summary()
    assert summary.startswith("(1 tensors of another shape, 1 missing, 1 unknown): a (3, 2) instead of (2, 3)")
    assert "without c; with d" in summary


def test_equal_shapes_do_not_differ():
    assert not state_diff({"a": torch.zeros(2)}, {"a": torch.ones(2)})
