import pytest
from callback_runs import logged

from conmim_lightning.train import run


@pytest.mark.parametrize(("accumulate", "steps"), [(1, [0, 1, 3, 5, 6]), (2, [0, 1, 3])])
def test_first_and_last_step_are_logged(tmp_path, composed, tiny, accumulate, steps):
    """Six batches an epoch; the interval of 2 is not changed for the others."""
    changes = [
        "trainer.log_every_n_steps=2",
        "schedule.warmup_epochs=0",
        f"schedule.accumulate_grad_batches={accumulate}",
    ]
    length = (
        ["schedule.epochs=2", "trainer.max_steps=7"] if accumulate == 1 else ["schedule.epochs=1", "data.batch_size=6"]
    )
    trainer = run(composed("experiment=quickstart", *tiny, *changes, *length, "~callbacks.probe", "~callbacks.report"))
    rows = [row for row in logged(tmp_path / "run") if row["train/loss"]]
    assert [int(row["step"]) for row in rows] == steps
    assert trainer.log_every_n_steps == 2
    assert all(rows[position]["train/retrieval_top1"] for position in (0, -1))


def test_a_run_shorter_than_the_interval_has_curves(tmp_path, composed, tiny):
    run(
        composed("experiment=quickstart", *tiny, "schedule.epochs=1", "schedule.warmup_epochs=0", "trainer.max_steps=3")
    )
    assert [row["step"] for row in logged(tmp_path / "run") if row["train/loss"]] == ["0", "2"]
