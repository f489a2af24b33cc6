import os
import signal
import sys
import threading
import time

import pytest

from conmim_lightning.studies.definition import Run
from conmim_lightning.studies.execution import Execution

CHILD = """
import json, os, pathlib, signal, sys, time
words = dict(word.split("=", 1) for word in sys.argv[1:])
folder = pathlib.Path(words["paths.run_dir"].strip('"'))
(folder / "threads").write_text(os.environ.get("OMP_NUM_THREADS", "all"))
if weights := words.get("backbone.weights"):
    assert weights == "null" or (pathlib.Path(weights.strip('"')) / "metrics.json").exists()
assert "resume" in words or not (folder / "run.yaml").exists(), "already holds a run"
if "fail" in words:
    print("a reason")
    sys.exit(3)
if "sleep" in words:
    signal.signal(signal.SIGTERM, lambda *_: ((folder / "saved").touch(), sys.exit(143)))
    (folder / "started").touch()
    time.sleep(60)
(folder / "metrics.json").write_text(json.dumps({"m": 0.5}))
"""
ENCODER = Run(("method", "seed0"), "method", ("a=1",), is_encoder=True)
PROBES = Run(("our (row)", "probes", "seed0"), "probes", ("b=2",), encoder=("method", "seed0"))
RANDOM = Run(("random", "probes", "seed0"), "probes", ("b=2",))


@pytest.fixture
def execution(tmp_path):
    (tmp_path / "child.py").write_text(CHILD)

    def make(**arguments):
        return Execution(tmp_path / "study", command=[sys.executable, str(tmp_path / "child.py")], **arguments)

    return make


@pytest.mark.parametrize("jobs", [1, 3])
def test_runs_are_complete_once_and_wait_for_their_encoder(execution, tmp_path, monkeypatch, jobs):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    runs = [ENCODER, PROBES, RANDOM]
    lines = list(execution(jobs=jobs).run_all(runs))
    assert len(lines) == 3
    record = execution().record(PROBES)
    assert record["words"] == ["b=2"]
    assert record["command"] == "train b=2"
    assert record["seconds"] > 0
    assert len(record["commit"]) >= 7
    threads = (tmp_path / "study" / "method" / "seed0" / "threads").read_text()
    assert threads == ("all" if jobs == 1 else "1")
    assert list(execution().run_all(runs)) == []


def test_a_failed_run_names_its_reason_and_is_tried_again(execution, tmp_path):
    failing = Run(("bad", "seed0"), "bad", ("fail=1",), is_encoder=True)
    with pytest.raises(ValueError, match=r"bad/seed0 ended with status 3(.|\n)*a reason(.|\n)*again to continue"):
        list(execution().run_all([failing, RANDOM]))
    assert execution().record(failing) is None


def test_an_evaluation_of_a_failed_encoder_does_not_start(execution, tmp_path):
    failing = ENCODER._replace(words=("fail=1",))
    with pytest.raises(ValueError, match="method/seed0 ended"):
        list(execution(jobs=2).run_all([failing, PROBES]))
    assert not (tmp_path / "study" / "our (row)").exists()


def test_other_settings_are_not_mixed(execution):
    list(execution().run_all([RANDOM]))
    with pytest.raises(ValueError, match=r"holds a complete run with other settings: \['b=2'\] instead of \['b=3'\]"):
        execution().record(RANDOM._replace(words=("b=3",)))
    with pytest.raises(ValueError, match="trainer=cpu"):
        execution(overrides=["trainer=cpu"]).record(RANDOM)


def test_a_stop_lets_running_processes_save(execution, tmp_path):
    """The error that a signal raises in the main thread ends the study; the process receives SIGTERM once."""

    class StoppedError(Exception):
        pass

    def stop(number, frame):
        raise StoppedError

    before = signal.signal(signal.SIGUSR1, stop)
    started = tmp_path / "study" / "slow" / "seed0" / "started"

    def interrupt():
        while not started.exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGUSR1)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(StoppedError):
            list(execution().run_all([Run(("slow", "seed0"), "slow", ("sleep=1",), is_encoder=True), RANDOM]))
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    assert started.with_name("saved").exists()
    assert not (tmp_path / "study" / "random").exists()


def test_a_stopped_run_starts_again_or_is_continued(execution, tmp_path):
    """The child fails if it finds the record of an earlier process and cannot continue it, as ``train`` does."""
    for run in (RANDOM, ENCODER._replace(words=("resume=auto",))):
        folder = tmp_path.joinpath("study", *run.folder)
        folder.mkdir(parents=True)
        (folder / "run.yaml").write_text("{}")
        list(execution().run_all([run]))
        assert (folder / "run.yaml").exists() == ("resume=auto" in run.words)


def test_the_time_of_earlier_processes_counts(execution, tmp_path):
    folder = tmp_path / "study" / "random" / "probes" / "seed0"
    folder.mkdir(parents=True)
    (folder / "seconds.txt").write_text("1000.0")
    list(execution().run_all([RANDOM]))
    assert 1000 < execution().record(RANDOM)["seconds"] < 1100


def test_jobs(execution):
    with pytest.raises(ValueError, match="jobs must be at least 1, got 0"):
        execution(jobs=0)
