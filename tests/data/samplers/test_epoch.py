import itertools

import numpy as np
import pytest

from conmim_lightning.data.samplers.epoch import EpochSampler, Permutation


def epoch_of(sampler, epoch):
    sampler.set_epoch(epoch)
    return [key.index for key in sampler]


def test_an_epoch_holds_every_sample_once():
    assert sorted(epoch_of(EpochSampler(101, seed=0), 3)) == list(range(101))


def test_orders_differ_between_epochs_and_seeds():
    orders = {tuple(epoch_of(EpochSampler(50, seed=seed), epoch)) for seed in range(3) for epoch in range(5)}
    assert len(orders) == 15


@pytest.mark.parametrize("num_devices", [2, 3, 4])
def test_devices_share_one_order(num_devices):
    alone = epoch_of(EpochSampler(22, seed=0), 1)
    devices = [epoch_of(EpochSampler(22, seed=0, rank=rank, num_devices=num_devices), 1) for rank in range(num_devices)]
    assert len({len(device) for device in devices}) == 1
    interleaved = list(itertools.chain.from_iterable(zip(*devices, strict=True)))
    assert interleaved == alone[: len(interleaved)]
    assert 22 - len(interleaved) < num_devices


def test_keys_carry_the_epoch():
    sampler = EpochSampler(4, seed=0)
    sampler.set_epoch(7)
    assert {key.epoch for key in sampler} == {7}


def test_resume_goes_on_within_its_epoch_only():
    whole = epoch_of(EpochSampler(30, seed=0), 2)
    sampler = EpochSampler(30, seed=0)
    sampler.resume(2, 12)
    assert [key.index for key in sampler] == whole[12:]
    assert len(epoch_of(sampler, 3)) == 30
    assert len(sampler) == 30


LARGE = (1 << 20) + 7


@pytest.mark.parametrize("size", [1, 2, 3, 1000, LARGE])
def test_a_shuffle_is_a_permutation(size):
    order = Permutation(size, 5)(np.arange(size))
    assert np.array_equal(np.sort(order), np.arange(size))


@pytest.mark.parametrize("size", [LARGE, 10**8, 2**40])
def test_places_of_a_large_shuffle_need_no_list(size):
    places = np.asarray([0, 1, 12345, size - 1])
    shuffle = Permutation(size, 3)
    result = shuffle(places)
    assert shuffle._list is None
    assert len(set(result.tolist())) == 4
    assert (result >= 0).all()
    assert (result < size).all()
    assert np.array_equal(shuffle(places[2:]), result[2:])
    assert not np.array_equal(Permutation(size, 4)(places), result)


def test_a_large_shuffle_looks_random():
    """Where numbers land, how neighbours fare, and how many stay: each within five deviations of chance."""
    order = Permutation(LARGE, 1)(np.arange(LARGE))
    thousand = np.bincount(order[:100_000] * 100 // LARGE, minlength=100)
    assert np.abs(thousand - 1000).max() < 5 * 1000**0.5
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 5 / LARGE**0.5
    assert abs(np.corrcoef(order, np.arange(LARGE))[0, 1]) < 5 / LARGE**0.5
    assert (order == np.arange(LARGE)).sum() < 8
    assert (np.diff(order) == 1).sum() < 8
    other = Permutation(LARGE, 2)(np.arange(LARGE))
    assert (order == other).sum() < 8


def test_large_epochs_go_on_where_they_stopped():
    sampler = EpochSampler(LARGE, seed=0, rank=1, num_devices=4)
    whole = list(itertools.islice(iter(sampler), 40_000))
    sampler.resume(0, 39_990)
    assert list(itertools.islice(iter(sampler), 10)) == whole[39_990:]
    assert len(sampler) == LARGE // 4
