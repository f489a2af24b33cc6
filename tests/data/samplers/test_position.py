from conmim_lightning.data.samplers.position import DataPosition


def test_batches_become_epochs_and_samples():
    assert DataPosition().after(16, global_batch=8, batches_per_epoch=6) == (2, 32, 16)


def test_a_resumed_run_counts_from_where_it_began():
    first = DataPosition().after(16, global_batch=8, batches_per_epoch=6)
    assert first.after(19, global_batch=8, batches_per_epoch=6) == (3, 8, 19)
    assert first.after(16, global_batch=8, batches_per_epoch=6) == first


def test_another_batch_size_starts_between_two_of_its_batches():
    assert DataPosition(1, 32, 4).rounded_down(16) == (1, 32, 4)
    assert DataPosition(1, 24, 3).rounded_down(16) == (1, 16, 3)
    assert DataPosition(0, 8, 1).rounded_down(16) == (0, 0, 1)
