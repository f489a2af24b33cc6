import json
import os
import signal
import sys

import pytest

from conmim_lightning.config.resolvers import RUN_NAME, run_name
from conmim_lightning.runtime import launch
from conmim_lightning.runtime.launch import as_launched_rank, name_run, own_job, run_command


@pytest.fixture(autouse=True)
def _no_rank(monkeypatch):
    for name in (*launch._RANK_VARIABLES, launch._RUN_DIR, launch._OVERRIDES, RUN_NAME, "SLURM_JOB_ID"):
        monkeypatch.setenv(name, "")  # so that the variable is removed at the end, if a test sets it
        monkeypatch.delenv(name)


class Job:
    runtime = type("Runtime", (), {"output_dir": "runs/1"})
    overrides = type("Overrides", (), {"task": ["seed=1"]})


def test_folder_and_overrides_are_passed_on_and_removed_at_the_end(monkeypatch):
    monkeypatch.setattr(launch.HydraConfig, "get", lambda: Job)
    with own_job():
        assert os.environ[launch._RUN_DIR] == "runs/1"
        assert json.loads(os.environ[launch._OVERRIDES]) == ["seed=1"]
        os.environ["LOCAL_RANK"] = "0"  # as Lightning does
    assert not {launch._RUN_DIR, launch._OVERRIDES, "LOCAL_RANK"} & set(os.environ)


def test_a_launched_rank_has_the_overrides_of_its_job(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv(launch._OVERRIDES, json.dumps(["seed=1"]))
    monkeypatch.setattr(sys, "argv", ["train", "-m", "seed=0,1", "~logger.csv", "hydra.job.num=1", "--config-dir=c"])
    as_launched_rank()
    assert sys.argv[:4] == ["train", "seed=1", "hydra.job.num=1", "--config-dir=c"]
    assert sys.argv[4:] == ["hydra.output_subdir=null", "hydra/job_logging=stdout"], "it writes no record"


def test_the_first_process_keeps_its_command_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train", "-m", "seed=0,1"])
    as_launched_rank()
    assert sys.argv == ["train", "-m", "seed=0,1"]


def test_a_run_has_one_name(monkeypatch):
    """Ranks and workers of a sweep inherit the environment."""
    name_run()
    name = os.environ[RUN_NAME]
    assert name.endswith(f"-{os.getpid()}")
    name_run()
    assert os.environ[RUN_NAME] == name == run_name()


def test_the_name_in_a_slurm_job_is_that_of_the_command(monkeypatch):
    """A requeued job has its folder again; two commands of a job have two folders."""
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    names = []
    for words in (["a=1", "b=2"], ["a=1", "b=2"], ["a=1", "b=2", "hydra.output_subdir=null"], ["a=1"]):
        monkeypatch.setattr(sys, "argv", ["train", *words])
        name_run()
        names.append(os.environ.pop(RUN_NAME))
    assert names[0].startswith("slurm/77-")
    assert names[0] == names[1] == names[2] != names[3]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_any_command_with_a_sentence(monkeypatch, capsys, number):
    monkeypatch.setattr(sys, "argv", ["plan"])
    with pytest.raises(SystemExit) as caught:
        run_command(lambda: signal.raise_signal(number))
    assert caught.value.code == 128 + number
    assert capsys.readouterr().err == f"\nerror: {number.name} stopped the command before it was complete\n"


def test_credentials_are_not_in_the_arguments_that_loggers_record(monkeypatch):
    monkeypatch.setattr(launch.HydraConfig, "get", lambda: Job)
    words = ["train", "data.root=http://me:geheim@host/set"]
    monkeypatch.setattr(sys, "argv", words)
    with own_job():
        assert sys.argv == ["train", "data.root=http://***@host/set"]
    assert sys.argv == ["train", "data.root=http://me:geheim@host/set"]
