import json
import os
import sys

import pytest

from conmim_lightning.runtime import launch
from conmim_lightning.runtime.launch import as_launched_rank, own_job


@pytest.fixture(autouse=True)
def _no_rank(monkeypatch):
    for name in (*launch._RANK_VARIABLES, launch._RUN_DIR, launch._OVERRIDES):
        monkeypatch.delenv(name, raising=False)


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
