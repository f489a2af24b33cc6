import pytest
from pretraining import fit, make_batches, make_task

from conmim_lightning.callbacks.progress import RunProgressBar


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 6), (4, 2)])
def test_the_bar_counts_optimizer_steps(capsys, accumulate, steps):
    bar = RunProgressBar("pre-training")
    changes = {"enable_progress_bar": True, "accumulate_grad_batches": accumulate, "log_every_n_steps": 1}
    fit(make_task(log_every_n_steps=1), make_batches(), bar, **changes)
    assert bar._bar.n == bar._bar.total == steps
    text = capsys.readouterr().err
    assert f"{steps}/{steps}" in text
    assert "pre-training" in text
    assert "loss=" in text


def test_a_disabled_bar_writes_nothing(capsys):
    bar = RunProgressBar()
    bar.disable()
    fit(make_task(), make_batches(2), bar, enable_progress_bar=True)
    assert "pre-training" not in capsys.readouterr().err
