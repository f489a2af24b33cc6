import stat

import pytest

from conmim_lightning import slurm
from conmim_lightning.signals import StoppedError


@pytest.fixture(autouse=True)
def job(monkeypatch):
    for name in ("SLURM_JOB_NAME", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "77")


def fake_scontrol(tmp_path, monkeypatch, body):
    path = tmp_path / "scontrol"
    path.write_text(f'#!/bin/sh\necho "$*" > {tmp_path}/arguments\n{body}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))


def test_jobs(monkeypatch):
    assert slurm.job_id() == "77"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "70")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert slurm.job_id() == "70_3"
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")
    assert slurm.job_id() is None
    monkeypatch.delenv("SLURM_JOB_ID")
    assert slurm.job_id() is None


def test_tasks_are_those_of_srun(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert slurm.num_tasks() == 1, "a command in the batch script, without srun"
    monkeypatch.setenv("SLURM_PROCID", "2")
    assert slurm.num_tasks() == 4


def test_a_restarted_job(monkeypatch):
    assert not slurm.is_restarted()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "0")
    assert not slurm.is_restarted()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert slurm.is_restarted()


def test_requeue_calls_scontrol(tmp_path, monkeypatch):
    fake_scontrol(tmp_path, monkeypatch, "")
    assert slurm.requeue() == "job 77 is requeued"
    assert (tmp_path / "arguments").read_text() == "requeue 77\n"


def test_a_refused_requeue_is_told(tmp_path, monkeypatch):
    fake_scontrol(tmp_path, monkeypatch, "echo Requeue disabled >&2; exit 1")
    assert slurm.requeue() == "job 77 could not be requeued: Requeue disabled"
    monkeypatch.setenv("PATH", "/nowhere")
    assert slurm.requeue().startswith("job 77 could not be requeued: ")


@pytest.mark.parametrize(
    ("status", "allowed", "rank", "requeued"),
    [(138, True, "0", True), (143, True, "0", False), (138, False, "0", False), (138, True, "1", False)],
)
def test_only_sigusr1_requeues_and_only_once_per_job(tmp_path, monkeypatch, status, allowed, rank, requeued):
    fake_scontrol(tmp_path, monkeypatch, "")
    monkeypatch.setenv("SLURM_PROCID", rank)
    error = StoppedError("SIGUSR1 stopped the run", status)
    slurm.requeue_stopped(error, allowed)
    assert (tmp_path / "arguments").exists() == requeued
    assert str(error).endswith("; job 77 is requeued") == requeued
