import torch

from conmim_lightning.weights.mismatch import mismatch


def test_what_differs_is_counted_and_named():
    mine = {"a": torch.zeros(2, 3), "b": torch.zeros(1), "c": torch.zeros(1)}
    theirs = {"a": torch.zeros(3, 2), "b": torch.zeros(1), "d": torch.zeros(1)}
    told = mismatch(mine, theirs)
    assert told.startswith("(1 tensors of another shape, 1 missing, 1 unknown): a (3, 2) instead of (2, 3)")
    assert "without c; with d" in told


def test_nothing_differs():
    assert mismatch({"a": torch.zeros(2)}, {"a": torch.ones(2)}) == ""
