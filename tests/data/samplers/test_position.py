import pytest

from conmim_lightning.data.samplers.position import DataPosition


def test_batches_become_epochs_and_samples():
    assert DataPosition().after(16, global_batch=8, batches_per_epoch=6) == (2, 32, 16)


def test_a_resumed_run_counts_from_where_it_began():
    first = DataPosition().after(16, global_batch=8, batches_per_epoch=6)
    assert first.after(19, global_batch=8, batches_per_epoch=6) == (3, 8, 19)
    assert first.after(16, global_batch=8, batches_per_epoch=6) == first


def test_devices_share_the_samples():
    assert DataPosition(1, 32, 4).samples_per_device(4, 2) == 16
    with pytest.raises(ValueError, match=r"8 samples into epoch 0, which is not a multiple of the batch of 16 x 1"):
        DataPosition(0, 8, 1).samples_per_device(16, 1)
