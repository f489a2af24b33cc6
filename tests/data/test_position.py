import pytest

from conmim_lightning.data.position import Position


def test_batches_become_epochs_and_samples():
    assert Position().after(16, batch_over_devices=8, batches_an_epoch=6) == (2, 32, 16)


def test_a_resumed_run_counts_from_where_it_began():
    first = Position().after(16, batch_over_devices=8, batches_an_epoch=6)
    assert first.after(19, batch_over_devices=8, batches_an_epoch=6) == (3, 8, 19)
    assert first.after(16, batch_over_devices=8, batches_an_epoch=6) == first


def test_devices_share_the_samples():
    assert Position(1, 32, 4).samples_a_device(4, 2) == 16
    with pytest.raises(ValueError, match=r"8 samples into epoch 0, which is no multiple of the batch of 16 x 1"):
        Position(0, 8, 1).samples_a_device(16, 1)
