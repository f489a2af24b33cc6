"""The command: runs, resumes, sweeps, errors. Only tests of processes start any."""

import os
import random as random_generator
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import lightning
import pytest
import torch
from conftest import tiny_overrides
from hydra import compose, initialize_config_dir
from lightning import Callback
from pretraining import QUICK_TEACHER, same_training
from stopping import StopOnly, run_with

from conmim_lightning.callbacks.checkpoint import RunCheckpoint, StoppedError
from conmim_lightning.config.check import CONF_DIR
from conmim_lightning.config.resolvers import register_resolvers
from conmim_lightning.train import run
from conmim_lightning.weights.checkpoint import read_checkpoint

SHORT = ["experiment=quickstart", "schedule.epochs=3", "schedule.warmup_epochs=1"]
NO_REPORT = "~callbacks.report"


def command(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command like a user, without keys and with closed input."""
    environ = {name: value for name, value in os.environ.items() if name not in ("WANDB_API_KEY", "LOCAL_RANK")}
    return subprocess.run(
        [sys.executable, "-m", "conmim_lightning.train", *arguments],
        cwd=cwd,
        env=environ | {"HOME": str(cwd), "OMP_NUM_THREADS": "1"} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    return torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=False)["state_dict"]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, scenes_root):
    """Weights of an uninterrupted run, and a function that composes others like it."""
    register_resolvers()

    def make(folder: Path, *overrides: str):
        with initialize_config_dir(CONF_DIR, version_base="1.3"):
            return compose(
                "train",
                [
                    f"paths.run_dir={folder}",
                    "logger=csv",
                    "trainer=cpu",
                    *SHORT,
                    *tiny_overrides(scenes_root),
                    NO_REPORT,
                    *overrides,
                ],
            )

    folder = tmp_path_factory.mktemp("uninterrupted")
    run(make(folder))
    return weights(folder), make


class StopAt(Callback):
    """Save and stop at a batch, like a signal or a time limit."""

    def __init__(self, batches: int, path: Path) -> None:
        self.batches, self.path = batches, path

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.fit_loop.epoch_loop.total_batch_idx + 1 == self.batches:
            trainer.save_checkpoint(self.path)
            trainer.should_stop = True


def stopped(make, folder: Path, batches: int, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> Path:
    """Checkpoint of a run that stopped after some batches."""
    stop = StopAt(batches, folder / "stopped.ckpt")
    original = lightning.Trainer.__init__

    def with_stop(self, *args, callbacks=(), **kwargs):
        original(self, *args, callbacks=[*callbacks, stop], **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(lightning.Trainer, "__init__", with_stop)
        run(make(folder / "first", *overrides))
    return stop.path


@pytest.mark.parametrize("batches", [1, 5, 6, 9, 12])
def test_a_resumed_run_equals_an_uninterrupted_one(uninterrupted, tmp_path, monkeypatch, batches):
    """Bit for bit: stopped within an epoch, at its end, after it."""
    expected, make = uninterrupted
    checkpoint = stopped(make, tmp_path, batches, monkeypatch)
    trainer = run(make(tmp_path / "second", f"resume={checkpoint}"))
    assert trainer.global_step == 18
    assert same(weights(tmp_path / "second"), expected)


@pytest.mark.parametrize(
    "overrides",
    [
        ["schedule.accumulate_grad_batches=2"],
        ["backbone.drop_path_rate=0.5"],
        ["trainer.precision=bf16-mixed", "data=scenes"],
    ],
    ids=["accumulation", "drop path", "bfloat16"],
)
def test_a_resumed_run_equals_an_uninterrupted_one_with(uninterrupted, tmp_path, monkeypatch, overrides):
    _, make = uninterrupted
    run(make(tmp_path / "whole", *overrides))
    checkpoint = stopped(make, tmp_path, 8, monkeypatch, *overrides)
    run(make(tmp_path / "second", *overrides, f"resume={checkpoint}"))
    assert same(weights(tmp_path / "second"), weights(tmp_path / "whole"))


def test_drop_path_has_an_effect(uninterrupted, tmp_path):
    """Otherwise the test above would show nothing."""
    expected, make = uninterrupted
    run(make(tmp_path, "backbone.drop_path_rate=0.5"))
    assert not same(weights(tmp_path), expected)


@pytest.mark.parametrize("batches", [1, 4, 6, 8, 17])
def test_a_stopped_run_resumes_from_its_last_checkpoint(uninterrupted, tmp_path, monkeypatch, batches):
    """Bit for bit, wherever it was stopped."""
    expected, make = uninterrupted
    run_with(make(tmp_path / "first"), monkeypatch, StopOnly(batches))
    trainer = run(make(tmp_path / "second", f"resume={tmp_path}/first/checkpoints/last.ckpt"))
    assert trainer.global_step == 18
    assert same(weights(tmp_path / "second"), expected)


@pytest.mark.parametrize("stops", [(6, 12), (5, 6, 12, 13), (4, 6, 8, 12), (12, 17)])
def test_several_stops_and_resumes(uninterrupted, tmp_path, monkeypatch, stops):
    """At the ends of epochs, before and after them, with checkpoints per step; bit for bit."""
    expected, make = uninterrupted
    by_steps = ["callbacks.checkpoint.every_n_epochs=null", "+callbacks.checkpoint.every_n_train_steps=3"]
    resume = "null"
    for index, batches in enumerate(stops):
        run_with(make(tmp_path / str(index), *by_steps, f"resume={resume}"), monkeypatch, StopOnly(batches))
        resume = str(tmp_path / str(index) / "checkpoints" / "last.ckpt")
        assert torch.load(resume, weights_only=False)["global_step"] == batches
    run(make(tmp_path / "last", f"resume={resume}"))
    assert same(weights(tmp_path / "last"), expected)


def test_a_stop_waits_for_the_accumulated_batches(uninterrupted, tmp_path, monkeypatch):
    _, make = uninterrupted
    run(make(tmp_path / "whole", "schedule.accumulate_grad_batches=2"))
    run_with(make(tmp_path / "first", "schedule.accumulate_grad_batches=2"), monkeypatch, StopOnly(7))
    checkpoint = tmp_path / "first" / "checkpoints" / "last.ckpt"
    assert torch.load(checkpoint, weights_only=False)["global_step"] == 4
    run(make(tmp_path / "second", "schedule.accumulate_grad_batches=2", f"resume={checkpoint}"))
    assert same(weights(tmp_path / "second"), weights(tmp_path / "whole"))


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signals_save_and_stop(uninterrupted, tmp_path, monkeypatch, by):
    expected, make = uninterrupted
    before = signal.getsignal(by)
    with pytest.raises(
        StoppedError, match=rf"{by.name} stopped the run after step 8; continue with resume=.*last.ckpt"
    ):
        run_with(make(tmp_path / "first"), monkeypatch, StopOnly(8, by))
    assert signal.getsignal(by) == before
    run(make(tmp_path / "second", f"resume={tmp_path}/first/checkpoints/last.ckpt"))
    assert same(weights(tmp_path / "second"), expected)


class Slow(Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        time.sleep(0.15)


def test_max_time_and_max_steps_save_their_position(uninterrupted, tmp_path, monkeypatch):
    expected, make = uninterrupted
    run(make(tmp_path / "first", "trainer.max_steps=8", "schedule.epochs=3"))
    checkpoint = torch.load(tmp_path / "first" / "checkpoints" / "last.ckpt", weights_only=False)
    position = {name: checkpoint["PretrainDataModule"][name] for name in ("epoch", "samples", "batches")}
    assert position == {"epoch": 1, "samples": 16, "batches": 8}
    trainer = run_with(make(tmp_path / "timed", "trainer.max_time='00:00:00:01'"), monkeypatch, Slow())
    assert 0 < trainer.global_step < 18
    run(make(tmp_path / "second", f"resume={tmp_path}/timed/checkpoints/last.ckpt"))
    assert same(weights(tmp_path / "second"), expected)


def test_the_end_is_saved_at_any_interval(uninterrupted, tmp_path):
    expected, make = uninterrupted
    run(make(tmp_path, "callbacks.checkpoint.every_n_epochs=null", "+callbacks.checkpoint.every_n_train_steps=5"))
    assert same(weights(tmp_path), expected)


def test_data_of_another_size_than_the_model(uninterrupted, tmp_path):
    _, make = uninterrupted
    for override, message in (
        ("data.crop.size=40", r"crops are of shape \(3, 40, 40\), the backbone takes \(3, 32, 32\)"),
        ("masking.grid_size=2", r"masks are of shape \(2, 2\), the backbone takes \(4, 4\)"),
    ):
        with pytest.raises(ValueError, match=message):
            run(make(tmp_path, override))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"some text", "not a readable checkpoint"),
        ({"weights": 1}, "lacks the training"),
    ],
)
def test_files_that_are_not_checkpoints(uninterrupted, tmp_path, content, message):
    _, make = uninterrupted
    path = tmp_path / "x.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        run(make(tmp_path / "run", f"resume={path}"))
    assert not (tmp_path / "run" / "metrics").exists(), "reported before a logger starts"


def test_a_checkpoint_with_code_is_rejected(uninterrupted, tmp_path):
    """A pickle may name any function to call; none is called."""

    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    _, make = uninterrupted
    torch.save({"state_dict": Trap(), "loops": {}}, tmp_path / "trap.ckpt")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        run(make(tmp_path / "run", f"resume={tmp_path}/trap.ckpt"))
    assert not (tmp_path / "sprung").exists()


def test_checkpoint_of_another_architecture(uninterrupted, tmp_path):
    _, make = uninterrupted
    run(make(tmp_path / "first", "debug=two_steps"))
    for override, message in (
        ("embed_dim=32", "embed_dim 16 instead of 32"),
        ("num_heads=4", "num_heads 2 instead of 4"),
    ):
        with pytest.raises(ValueError, match=f"another architecture: .*{message}"):
            run(make(tmp_path / "second", f"backbone.{override}", f"resume={tmp_path}/first/checkpoints/last.ckpt"))


@pytest.mark.slow
def test_killed_five_times_at_random_moments(uninterrupted, tmp_path, scenes_root):
    """kill -9, again and again; the last checkpoint is enough for the same result, bit for bit."""
    _, make = uninterrupted
    length = ["schedule.epochs=40", "callbacks.checkpoint.every_n_epochs=null", "~callbacks.probe"]
    run(make(tmp_path / "whole", *length))
    length.append("+callbacks.checkpoint.every_n_train_steps=2")
    overrides = [*SHORT, *tiny_overrides(scenes_root), NO_REPORT, "logger=none", "trainer=cpu", *length]
    random, resume, kills, started = random_generator.Random(0), "null", [], time.time()
    while True:
        folder = tmp_path / f"run{len(kills)}"
        process = subprocess.Popen(
            [sys.executable, "-m", "conmim_lightning.train", *overrides, f"paths.run_dir={folder}",
             f"hydra.run.dir={folder}", f"resume={resume}"],
            cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        checkpoint = folder / "checkpoints" / "last.ckpt"
        if len(kills) < 5:
            while not checkpoint.exists() and process.poll() is None and time.time() < started + 200:
                time.sleep(0.005)
            time.sleep(random.uniform(0, 0.4))
            process.send_signal(signal.SIGKILL)
        _, stderr = process.communicate()
        resume = str(checkpoint)
        if process.returncode != -signal.SIGKILL:
            assert process.returncode == 0, stderr.decode()
            break
        kills.append(torch.load(resume, weights_only=False)["global_step"])
    assert len(kills) == 5
    assert kills == sorted(kills)
    assert kills[-1] < 240
    assert same(weights(folder), weights(tmp_path / "whole"))


def test_the_last_checkpoint_exists_while_older_ones_are_removed(uninterrupted, tmp_path, monkeypatch):
    _, make = uninterrupted
    removals = []

    def record(self, trainer, filepath, original=RunCheckpoint._remove_checkpoint):
        monkeypatch.setattr(
            trainer.strategy, "remove_checkpoint", lambda path: removals.append((path, resolved())) or None
        )
        original(self, trainer, filepath)

    def resolved() -> Path:
        return (tmp_path / "checkpoints" / "last.ckpt").resolve(strict=True)

    monkeypatch.setattr(RunCheckpoint, "_remove_checkpoint", record)
    run(make(tmp_path))
    assert len(removals) == 1, "of three epochs, the two newest stay"
    assert all(resolved != Path(removed) for removed, resolved in removals)


@pytest.mark.slow
def test_the_command_from_any_folder(tmp_path, tiny):
    done = command("experiment=quickstart", *tiny, "schedule.epochs=1", "schedule.warmup_epochs=0", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    files = dict(
        line.split(maxsplit=1) for line in done.stdout.splitlines() if line.startswith(("check", "curv", "repo"))
    )
    assert set(files) == {"checkpoint", "curves", "report"}
    assert all((tmp_path / path).is_file() for path in files.values())
    assert "effective batch 8 = 8 per device x 1 devices x 1 accumulated" in done.stdout
    assert "pre-training" in done.stderr
    assert "Warning" not in done.stderr
    run_dir = (tmp_path / files["curves"]).parent.parent
    assert list(run_dir.glob("wandb/offline-run-*")), "wandb is the default, offline without a key"


@pytest.mark.slow
def test_each_run_of_a_sweep_has_its_folder(tmp_path, tiny):
    done = command("-m", "experiment=quickstart", *tiny, "debug=two_steps", "~callbacks.report",
                   "loss.temperature=0.05,0.1", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    records = {path.parent.name: path.read_text() for path in tmp_path.glob("runs/*/*/*/run.yaml")}
    assert set(records) == {"0", "1"}
    assert "temperature: 0.05" in records["0"]
    assert "temperature: 0.1" in records["1"]
    for number in records:
        runs = list(tmp_path.glob(f"runs/*/*/{number}/wandb/offline-run-*"))
        assert len(runs) == 1, "each job has a wandb run of its own"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["experiment=quickstrat"], "quickstrat"),
        (["data.root=nowhere"], "'nowhere' does not exist"),
        (["data.root=.", "loss.temprature=1"], "did you mean temperature?"),
        (["data.root=.", "paths.root_dir=/dev/null/x"], "/dev/null"),
        (["data.root=.", "data.batch_size=many"], "many"),
    ],
)
def test_errors_are_one_message(run_command, arguments, message):
    status, _, stderr = run_command("train", *arguments)
    assert status == 1
    assert "error: " in stderr
    assert message in stderr
    assert "Traceback" not in stderr


@pytest.mark.ddp
def test_two_processes_train_one_model(tmp_path, tiny):
    done = command("experiment=quickstart", *tiny, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2",
                   "data.batch_size=4", "schedule.epochs=1", "schedule.warmup_epochs=0", "logger=csv",
                   "trainer.log_every_n_steps=1", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "effective batch 8 = 4 per device x 2 devices x 1 accumulated" in done.stdout
    runs = list(tmp_path.glob("runs/*/*"))
    assert len(runs) == 1, "both processes write to one folder"
    assert (runs[0] / "report.png").is_file()
    assert torch.load(runs[0] / "checkpoints" / "last.ckpt", weights_only=False)["global_step"] == 6


@pytest.mark.ddp
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs g++ on a CPU")
@pytest.mark.parametrize("checkpointing", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_processes_train_the_same_compiled_model(tmp_path, tiny, checkpointing):
    states = []
    for compiled in ("true", "false"):
        done = command("experiment=quickstart", *tiny, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2",
                       "trainer.precision=32-true", "data.batch_size=4", "schedule.accumulate_grad_batches=2",
                       "schedule.epochs=1", "schedule.warmup_epochs=0",
                       "optimizer=sgd", "optimizer.lr=0.1",  # AdamW turns rounding into steps
                       f"task.compile={compiled}", "~callbacks.probe", "~callbacks.report", *QUICK_TEACHER,
                       "task.model.projector.hidden_dim=768",  # several buckets of gradients, the first of 1 MiB
                       f"task.model.checkpointing={checkpointing}",
                       f"paths.run_dir={tmp_path}/compiled-{compiled}", cwd=tmp_path)  # fmt: skip
        assert done.returncode == 0, done.stderr
        states.append(read_checkpoint(str(tmp_path / f"compiled-{compiled}"))["state_dict"])
    same_training(*states)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command_name", ["train", "benchmark", "plan", "evaluate", "export", "embed", "inspect", "visualize"]
)
def test_help_does_not_wait_for_heavy_imports(command_name):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"conmim_lightning.{command_name}", "--help"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "Override anything" in done.stdout or "conmim" in done.stdout
    loaded = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "hydra" in loaded
    assert not loaded & {"torch", "lightning", "timm", "torchvision", "torchmetrics", "matplotlib", "wandb"}


@pytest.mark.ddp
def test_the_jobs_of_a_parallel_sweep_have_one_folder_and_one_table(tmp_path, tiny):
    """Without probes, the table shows the training metrics."""
    done = command("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "experiment=quickstart", *tiny,
                   "logger=csv",
                   "debug=two_steps", "~callbacks.report", "~callbacks.probe", "loss.temperature=0.05,0.1",
                   cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("runs/*/*")
    assert {path.parent.name for path in folder.glob("*/run.yaml")} == {"0", "1"}
    header, *rows = (folder / "sweep.tsv").read_text().splitlines()
    assert "train/loss mean" in header.split("\t")
    assert len(rows) == 2


@pytest.mark.slow
def test_a_sweeper_optimises_the_objective(tmp_path, tiny):
    words = ["-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.direction=minimize",
             "experiment=quickstart", *tiny, "logger=csv", "debug=two_steps", "~callbacks.report", "~callbacks.probe",
             "loss.temperature=interval(0.05,0.3)"]  # fmt: skip
    done = command(*words, "objective=train/loss", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Best value: " in done.stdout + done.stderr
    assert len(list(tmp_path.glob("runs/*/*/*/metrics.json"))) == 2
    done = command(*words, cwd=tmp_path)
    assert done.returncode == 1
    assert "the sweeper optimises a metric; name it, such as objective=val/knn_top1" in done.stderr
    done = command(*words, "objective=train/los", cwd=tmp_path)
    assert "objective=train/los: unknown; did you mean train/loss" in done.stderr
