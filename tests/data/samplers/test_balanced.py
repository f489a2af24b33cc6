import numpy as np

from conmim_lightning.data.samplers.balanced import BalancedSampler

LABELS = np.repeat(np.arange(3), [10, 100, 1000])


def test_classes_of_unequal_size_are_sampled_equally():
    counts = np.bincount(LABELS[[key.index for key in BalancedSampler(LABELS, seed=0)]])
    assert counts.sum() == 1110
    assert counts.min() > 300


def test_the_order_is_the_same_for_any_number_of_devices_and_after_a_resume():
    whole = list(BalancedSampler(LABELS, seed=3))
    ranks = [list(BalancedSampler(LABELS, seed=3, rank=rank, num_devices=2)) for rank in (0, 1)]
    assert [key for pair in zip(*ranks, strict=True) for key in pair] == whole
    sampler = BalancedSampler(LABELS, seed=3)
    sampler.resume(0, 500)
    assert list(sampler) == whole[500:]
    sampler.set_epoch(1)
    assert len(list(sampler)) == 1110
    assert list(sampler) != whole
