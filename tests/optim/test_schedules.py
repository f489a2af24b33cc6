"""By hand; the official values are in tests/integration/test_golden_pretrain.py."""

import itertools

import pytest

from conmim_lightning.optim.schedules import cosine, warmup_cosine, warmup_multistep, warmup_poly


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


def test_poly_is_mmsegmentations():
    """lr * (1 - step / total), in the warm-up times 1 - (1 - step / warmup) * (1 - 1e-6)."""
    rates = [warmup_poly(step, total_steps=10, warmup_steps=4, peak=2.0, end=0.0) for step in (0, 1, 2, 4, 5, 9, 10)]
    assert rates == pytest.approx([2e-6, 1.8 * 0.25, 1.6 * 0.5, 1.2, 1.0, 0.2, 0.0], rel=1e-5)
    assert warmup_poly(5, total_steps=10, warmup_steps=0, peak=2.0, end=1.0) == 1.5


def test_multistep_is_vitdets():
    """Tenths at 163,889 and 177,546 of 184,375 steps, as ViTDet's configuration says for 100 epochs."""
    rates = {
        step: warmup_multistep(step, total_steps=184375, warmup_steps=250, peak=1.0, end=0.0)
        for step in (0, 125, 250, 163888, 163889, 177546, 184374)
    }
    assert list(rates.values()) == pytest.approx([0.001, 0.5005, 1.0, 1.0, 0.1, 0.01, 0.01])
    assert warmup_multistep(10, total_steps=10, warmup_steps=0, peak=1.0, end=0.05) == 0.05
