"""Runs that nobody watches: they continue in their folder, stop with a sentence, and survive a full disk."""

import csv
import logging
import resource
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from callback_runs import folder_overrides
from conftest import tiny_labelled, tiny_overrides
from hydra import compose, initialize_config_dir
from lightning import Callback
from stopping import StopOnly, run_with

from conmim_lightning.callbacks.checkpoint_io import AtomicCheckpointIO
from conmim_lightning.config.check import CONF_DIR
from conmim_lightning.config.resolvers import register_resolvers
from conmim_lightning.runtime.resume import checkpoints
from conmim_lightning.signals import StoppedError, stop_signals
from conmim_lightning.train import run
from conmim_lightning.weights.checkpoint import read_checkpoint

SHORT = ["experiment=quickstart", "schedule.epochs=3", "schedule.warmup_epochs=1", "~callbacks.report"]
EACH_STEP = ["trainer.log_every_n_steps=1", "task.log_every_n_steps=1"]
QUIET = ["~callbacks.probe"]


@pytest.fixture(scope="module")
def make(scenes_root):
    """Compose a run of 18 steps in a folder."""
    register_resolvers()

    def compose_with(folder: Path, *overrides: str):
        own = [f"paths.run_dir={folder}", "logger=csv", "trainer=cpu", *SHORT, *tiny_overrides(scenes_root)]
        own = [word for word in own if word != "callbacks.report.num_images=2"]
        with initialize_config_dir(CONF_DIR, version_base="1.3"):
            return compose("train", [*own, *overrides])

    return compose_with


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder)["state_dict"]


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def curves(folder: Path) -> list[dict[str, str]]:
    """All logged values but the times."""
    with (folder / "metrics" / "metrics.csv").open() as file:
        rows = [{key: cell for key, cell in row.items() if cell} for row in csv.DictReader(file)]
    return [{key: cell for key, cell in row.items() if not key.startswith("speed/")} for row in rows]


class At(Callback):
    """Act in a hook when a number of optimizer steps is done, once."""

    def __init__(self, hook: str, step: int, action) -> None:
        self.left = [action]

        def act(trainer, *arguments, **others):
            if trainer.global_step == step and self.left:
                self.left.pop()(trainer)

        setattr(self, hook, act)


@pytest.fixture
def tiny_classes(scenes_root):
    return tiny_labelled(scenes_root)


def send(number: signal.Signals):
    return lambda trainer: signal.raise_signal(number)


@pytest.mark.parametrize("stops", [(4,), (6,), (5, 12)])
def test_one_line_repeated_gives_the_weights_and_curves_of_an_uninterrupted_run(make, tmp_path, monkeypatch, stops):
    run(make(tmp_path / "whole", *EACH_STEP))
    for step in stops:
        with pytest.raises(StoppedError):
            run_with(make(tmp_path / "run", *EACH_STEP, "resume=auto"), monkeypatch, StopOnly(step, signal.SIGTERM))
    run(make(tmp_path / "run", *EACH_STEP, "resume=auto"))
    assert same(tmp_path / "run", tmp_path / "whole")
    assert curves(tmp_path / "run") == curves(tmp_path / "whole")
    assert len(curves(tmp_path / "whole")) > 18, "steps and probes"


@pytest.mark.parametrize("kind", ["steps", "epochs", "max_steps"])
def test_a_kill_right_after_a_checkpoint_loses_no_row(make, tmp_path, monkeypatch, kind):
    """The folder is copied at the moment at which each checkpoint appears, and every copy continues."""
    by_steps = ["callbacks.checkpoint.every_n_epochs=null", "+callbacks.checkpoint.every_n_train_steps=5"]
    more = {"steps": by_steps, "epochs": [], "max_steps": ["trainer.max_epochs=-1", "trainer.max_steps=16"]}
    own = [*EACH_STEP, "callbacks.probe.every_n_epochs=1", *more[kind]]
    copies, original = [], AtomicCheckpointIO.save_checkpoint

    def save_and_copy(self, checkpoint, path, storage_options=None):
        original(self, checkpoint, path, storage_options)
        copies.append(tmp_path / f"copy{len(copies)}")
        shutil.copytree(tmp_path / "whole", copies[-1], symlinks=True)

    with monkeypatch.context() as patch:
        patch.setattr(AtomicCheckpointIO, "save_checkpoint", save_and_copy)
        run(make(tmp_path / "whole", *own))
    assert len(copies) == (4 if kind == "steps" else 3)
    for copy in copies:
        run(make(copy, *own, "resume=auto"))
        assert curves(copy) == curves(tmp_path / "whole")
        assert same(copy, tmp_path / "whole"), "last.ckpt leads to the newest checkpoint"


def test_the_folder_of_a_run_continues_in_another_one(make, tmp_path, monkeypatch):
    run(make(tmp_path / "whole", *QUIET))
    run_with(make(tmp_path / "first", *QUIET), monkeypatch, StopOnly(8))
    run(make(tmp_path / "second", *QUIET, f"resume={tmp_path}/first"))
    assert same(tmp_path / "second", tmp_path / "whole")


def test_a_moved_folder_continues(make, tmp_path, monkeypatch):
    run(make(tmp_path / "whole", *QUIET))
    run_with(make(tmp_path / "first", *QUIET), monkeypatch, StopOnly(8))
    shutil.move(tmp_path / "first", tmp_path / "moved")
    run(make(tmp_path / "moved", *QUIET, "resume=auto"))
    assert same(tmp_path / "moved", tmp_path / "whole")
    names = sorted(path.name for path in (tmp_path / "moved" / "checkpoints").iterdir())
    assert names == ["last.ckpt", "step0000012.ckpt", "step0000018.ckpt"]


def test_a_damaged_checkpoint_costs_one_epoch(make, tmp_path):
    run(make(tmp_path / "whole", *QUIET))
    run(make(tmp_path / "run", *QUIET, "schedule.epochs=3"))
    newest = checkpoints(tmp_path / "run")[0]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 8
    newest.write_bytes(content)
    with pytest.warns(UserWarning, match=r"step0000018.*the run continues with the one before"):
        trainer = run(make(tmp_path / "run", *QUIET, "resume=auto"))
    assert trainer.global_step == 18
    assert same(tmp_path / "run", tmp_path / "whole")


def test_a_second_run_in_a_folder_is_rejected_before_it_replaces_anything(make, tmp_path):
    run(make(tmp_path / "run", *QUIET))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    with pytest.raises(ValueError, match="already holds a run; resume=auto continues it"):
        run(make(tmp_path / "run", *QUIET))
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}


@pytest.mark.parametrize("batch", [16, 4])
@pytest.mark.parametrize("stop", [6, 8])
def test_another_batch_size_ends_with_the_images(make, tmp_path, monkeypatch, caplog, batch, stop):
    """8 to 16 and to 4 images, after an epoch and within one."""
    run_with(make(tmp_path / "run", *QUIET, *EACH_STEP), monkeypatch, StopOnly(stop))
    with caplog.at_level(logging.INFO):
        trainer = run(make(tmp_path / "run", *QUIET, *EACH_STEP, "resume=auto", f"data.batch_size={batch}"))
    remaining = (18 - stop) * 8 // batch
    assert trainer.global_step == stop + remaining
    assert trainer.current_epoch == 3
    rows = {int(row["step"]): row for row in curves(tmp_path / "run") if "optim/lr" in row}
    assert sorted(rows) == list(range(stop + remaining))
    last = float(rows[stop + remaining - 1]["optim/lr"])
    minimum = trainer.lightning_module.schedule.min_lr
    assert minimum < last < minimum + 0.25 * (1e-3 - minimum), "close to the end of the cosine, not past it"
    momentum = [float(rows[step]["optim/teacher_momentum"]) for step in sorted(rows)]
    assert momentum == sorted(momentum)
    assert f"effective batch {batch} instead of 8" in caplog.text


def test_another_batch_size_within_a_batch_says_what_is_seen_again(make, tmp_path, monkeypatch):
    run_with(make(tmp_path / "run", *QUIET), monkeypatch, StopOnly(7))
    with pytest.warns(UserWarning, match="8 samples into epoch 1, within a batch of 16; 8 samples are seen again"):
        trainer = run(make(tmp_path / "run", *QUIET, "resume=auto", "data.batch_size=16"))
    assert trainer.global_step == 7 + 6


def test_a_finished_run_says_that_there_is_nothing_to_train_and_keeps_its_metrics(make, tmp_path, caplog):
    run(make(tmp_path / "run"))
    metrics = (tmp_path / "run" / "metrics.json").read_text()
    assert "val/knn_top1" in metrics
    for epochs in (3, 2):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            run(make(tmp_path / "run", "resume=auto", f"schedule.epochs={epochs}"))
        assert "nothing to train: the checkpoint has 18 steps, 3 epochs" in caplog.text
        assert f"{epochs} epochs; a larger schedule.epochs" in caplog.text
    assert "val/knn_top1" in (tmp_path / "run" / "metrics.json").read_text()


def test_an_extended_run_says_how_the_schedule_is_stretched(make, tmp_path, caplog):
    run(make(tmp_path / "run", *QUIET))
    with caplog.at_level(logging.INFO):
        trainer = run(make(tmp_path / "run", *QUIET, "resume=auto", "schedule.epochs=5"))
    assert trainer.global_step == 30
    assert "planned steps 30 instead of 18" in caplog.text
    assert "60.0% of the schedule is done" in caplog.text


def test_an_early_stop_says_how_to_continue(make, tmp_path, monkeypatch, caplog):
    """``max_time`` sets ``should_stop``, as this callback does."""
    with caplog.at_level(logging.INFO):
        run_with(make(tmp_path / "run", *QUIET), monkeypatch, StopOnly(4))
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert f"training stopped early, after 4 of 18 steps; continue with resume={last}" in caplog.text


def test_max_time_before_the_first_step(make, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        run(make(tmp_path / "run", *QUIET, "trainer.max_time='00:00:00:00'"))
    assert "training stopped early, after 0 of 18 steps" in caplog.text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_before_the_first_step(make, tmp_path, monkeypatch, number):
    with stop_signals(), pytest.raises(StoppedError, match="before its first step; there is nothing") as caught:
        run_with(make(tmp_path / "run"), monkeypatch, At("on_train_start", 0, send(number)))
    assert caught.value.status == 128 + number


def test_a_signal_before_the_first_step_of_a_resumed_run(make, tmp_path, monkeypatch):
    run_with(make(tmp_path / "run", *QUIET), monkeypatch, StopOnly(8))
    stop = At("on_train_start", 8, send(signal.SIGTERM))
    with stop_signals(), pytest.raises(StoppedError, match=r"before a step; continue with resume=.*last.ckpt"):
        run_with(make(tmp_path / "run", *QUIET, "resume=auto"), monkeypatch, stop)
    run(make(tmp_path / "whole", *QUIET))
    run(make(tmp_path / "run", *QUIET, "resume=auto"))
    assert same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize(
    ("hook", "step"), [("on_train_epoch_end", 6), ("on_train_epoch_end", 18), ("on_train_end", 18)]
)
def test_a_signal_between_two_steps(make, tmp_path, monkeypatch, hook, step):
    """During the probe at the end of an epoch, also of the last one."""
    with stop_signals(), pytest.raises(StoppedError, match=f"stopped the run after step {step}") as caught:
        run_with(make(tmp_path / "run", *QUIET), monkeypatch, At(hook, step, send(signal.SIGTERM)))
    assert caught.value.status == 143
    assert read_checkpoint(tmp_path / "run")["global_step"] == step


class Quota(Callback):
    """The disk is full from one optimizer step until another."""

    def __init__(self, first: int, last: int, size: int = 20_000) -> None:
        self.first, self.last, self.size, self.before = first, last, size, resource.getrlimit(resource.RLIMIT_FSIZE)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        full = self.first <= trainer.global_step < self.last
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size if full else self.before[0], self.before[1]))

    def restore(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)


@contextmanager
def quota(*steps: int):
    """The limit ends with the block: pytest itself writes to a file if its output is redirected to one."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    disk = Quota(*steps)
    try:
        yield disk
    finally:
        disk.restore()
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_ends_the_run_and_the_checkpoint_before_stays(make, tmp_path, monkeypatch):
    with quota(8, 99) as disk, pytest.raises(OSError, match=r"File too large: '.*step0000012.ckpt'"):
        run_with(make(tmp_path / "run", *QUIET), monkeypatch, disk)
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["last.ckpt", "step0000006.ckpt"], "nothing partial"
    run(make(tmp_path / "run", *QUIET, "resume=auto"))
    run(make(tmp_path / "whole", *QUIET))
    assert same(tmp_path / "run", tmp_path / "whole")


def test_continue_goes_on_and_tries_again(make, tmp_path, monkeypatch):
    go_on = "callbacks.checkpoint.on_write_error=continue"
    message = r"step0000012.ckpt' could not be written: File too large; the run goes on"
    with quota(8, 14) as disk, pytest.warns(UserWarning, match=message):
        trainer = run_with(make(tmp_path / "run", *QUIET, go_on), monkeypatch, disk)
    assert trainer.global_step == 18
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["last.ckpt", "step0000006.ckpt", "step0000018.ckpt"]
    assert read_checkpoint(tmp_path / "run")["global_step"] == 18


@pytest.mark.filterwarnings("ignore:.*could not be written:UserWarning")
def test_continue_also_keeps_the_metrics_for_later(make, tmp_path, monkeypatch):
    """The disk takes nothing at all, from the first step on: no checkpoint and no row."""
    own = [*QUIET, *EACH_STEP, "callbacks.checkpoint.on_write_error=continue"]
    with quota(0, 14, 10) as disk:
        trainer = run_with(make(tmp_path / "run", *own), monkeypatch, disk)
    assert trainer.global_step == 18
    assert [int(row["step"]) for row in curves(tmp_path / "run")] == list(range(18))
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["last.ckpt", "step0000018.ckpt"]
    assert read_checkpoint(tmp_path / "run")["global_step"] == 18


def test_a_stop_is_saved_although_it_is_not_the_best(make, tmp_path, monkeypatch):
    """With ``monitor``, Lightning saves only the best; the stop goes to last.ckpt."""
    best = [
        "+callbacks.checkpoint.monitor=optim/lr",
        "+callbacks.checkpoint.mode=max",
        "callbacks.checkpoint.save_top_k=1",
    ]
    with pytest.raises(StoppedError, match=r"after step 14; continue with resume=.*last\.ckpt"):
        run_with(make(tmp_path / "run", *QUIET, *EACH_STEP, *best), monkeypatch, StopOnly(14, signal.SIGTERM))
    assert read_checkpoint(tmp_path / "run")["global_step"] == 14


@pytest.mark.parametrize("stages", ["[fit,test]", "[test]"])
def test_a_signal_during_the_test_stage(composed, tiny_classes, tmp_path, monkeypatch, stages):
    overrides = ["experiment=quickstart_finetune", *tiny_classes, "schedule.epochs=1", "schedule.warmup_epochs=0"]
    cfg = composed(*overrides, f"stages={stages}")
    stop = At("on_test_batch_end", 6 if "fit" in stages else 0, send(signal.SIGTERM))
    advice = (
        "during the test; evaluate it with: evaluate checkpoint=.*last.ckpt" if "fit" in stages else "during the test"
    )
    with stop_signals(), pytest.raises(StoppedError, match=f"SIGTERM stopped the command {advice}") as caught:
        run_with(cfg, monkeypatch, stop)
    assert caught.value.status == 143


def test_the_last_save_of_a_run_must_succeed(make, tmp_path, monkeypatch):
    go_on = "callbacks.checkpoint.on_write_error=continue"
    with (
        quota(8, 99) as disk,
        pytest.warns(UserWarning, match="could not be written"),
        pytest.raises(OSError, match=r"File too large: '.*step0000018.ckpt'"),
    ):
        run_with(make(tmp_path / "run", *QUIET, go_on), monkeypatch, disk)
    assert read_checkpoint(tmp_path / "run")["global_step"] == 6


def test_a_folder_that_cannot_be_written_is_an_error_at_once(make):
    with pytest.raises(OSError, match="/proc/1"):
        run(make(Path("/proc/1/run"), *QUIET))


def test_the_list_of_broken_images_is_continued(composed, damaged, tiny, tmp_path, monkeypatch):
    """A killed process has listed an image after its last checkpoint, and half of a line."""
    overrides = [*folder_overrides(damaged, tiny), *QUIET, "callbacks.broken_images.max_fraction=0.5"]
    overrides = [word for word in overrides if "num_images" not in word] + ["~callbacks.report"]
    path = tmp_path / "run" / "broken_images.tsv"
    run(composed(*overrides, f"paths.run_dir={tmp_path}/whole"))
    expected = sorted((tmp_path / "whole" / "broken_images.tsv").read_text().splitlines())
    assert len(expected) == 2
    run_with(composed(*overrides), monkeypatch, StopOnly(1))
    path.write_text("".join(f"{line}\n" for line in expected) + "half a li")
    run(composed(*overrides, "resume=auto"))
    assert sorted(path.read_text().splitlines()) == expected


def test_a_changed_setting_of_the_optimizer_is_not_silent(make, tmp_path, monkeypatch):
    run_with(make(tmp_path / "run", *QUIET), monkeypatch, StopOnly(6))
    message = r"a resumed run does not use optimizer.weight_decay=0.3 \(the checkpoint's 0.05 is used\)"
    with pytest.warns(UserWarning, match=message):
        trainer = run(make(tmp_path / "run", *QUIET, "resume=auto", "optimizer.weight_decay=0.3"))
    assert {group["weight_decay"] for group in trainer.optimizers[0].param_groups} == {0.0, 0.05}


def test_weights_that_a_resumed_run_does_not_read(make, tmp_path, monkeypatch, caplog):
    run(make(tmp_path / "first", *QUIET))
    run_with(make(tmp_path / "run", *QUIET), monkeypatch, StopOnly(6))
    with caplog.at_level(logging.INFO):
        run(make(tmp_path / "run", *QUIET, "resume=auto", f"backbone.weights={tmp_path}/first"))
    assert "is not read: the checkpoint of resume= has newer weights" in caplog.text
