import itertools

import pytest

from conmim_lightning.data.sampler import EpochSampler


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
    parts = [epoch_of(EpochSampler(22, seed=0, rank=rank, num_devices=num_devices), 1) for rank in range(num_devices)]
    assert len({len(part) for part in parts}) == 1
    interleaved = list(itertools.chain.from_iterable(zip(*parts, strict=True)))
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
