"""Hand-worked values; the official figures are in test_golden.py."""

import itertools

import pytest

from conmim_lightning.optim.schedules import cosine, warmup_cosine


def test_cosine():
    values = [cosine(step, total_steps=4, start=1.0, end=0.0) for step in (0, 1, 2, 4, 9)]
    assert values == pytest.approx([1.0, 0.5 + 0.5**0.5 / 2, 0.5, 0.0, 0.0], abs=1e-15)


def test_warmup_reaches_the_peak_at_its_last_step():
    rates = [warmup_cosine(step, total_steps=10, warmup_steps=3, peak=2.0, end=0.0) for step in range(10)]
    assert rates[:4] == [0.0, 1.0, 2.0, 2.0]
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[3:]))


def test_without_warmup():
    assert warmup_cosine(0, total_steps=5, warmup_steps=0, peak=3.0, end=1.0) == 3.0


def test_warmup_of_one_step():
    assert warmup_cosine(0, total_steps=5, warmup_steps=1, peak=3.0, end=1.0) == 0.0
