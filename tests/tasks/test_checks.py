import pytest

from conmim_lightning.tasks.checks import balanced_weights


def test_balanced_weights_by_hand():
    assert balanced_weights([12, 6, 6]).tolist() == pytest.approx([2 / 3, 4 / 3, 4 / 3])
