"""SLURM: the job of this process, and its requeueing."""

import os
import signal
import subprocess

_INTERACTIVE = ("bash", "interactive")  # names of jobs in which a user types commands


def job_id() -> str | None:
    """Return the identifier of this process's batch job, of an array's job with its task; None outside of a job."""
    if "SLURM_JOB_ID" not in os.environ or os.environ.get("SLURM_JOB_NAME") in _INTERACTIVE:
        return None
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ["SLURM_JOB_ID"]


def num_tasks() -> int:
    """Return the number of tasks that ``srun`` started with this process; 1 outside of ``srun``."""
    return int(os.environ.get("SLURM_NTASKS", 1)) if job_id() and "SLURM_PROCID" in os.environ else 1


def is_restarted() -> bool:
    """Return whether SLURM has requeued this job before."""
    return job_id() is not None and int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0


def requeue() -> str:
    """Ask SLURM to run this process's job again; return what happened, as a clause."""
    job = job_id()
    assert job
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return f"job {job} could not be requeued: {error}"
    if done.returncode:
        return f"job {job} could not be requeued: {done.stderr.strip() or f'scontrol ended with {done.returncode}'}"
    return f"job {job} is requeued"


def requeue_stopped(error: BaseException, allowed: bool) -> None:
    """Requeue this process's job after SIGUSR1, once, in its first process, and say so in the error's message.

    Args:
        error: error with an exit ``status`` of 128 + signal.
        allowed: whether to requeue at all.
    """
    by_usr1 = getattr(error, "status", 0) == 128 + getattr(signal, "SIGUSR1", 0)
    if allowed and by_usr1 and job_id() and os.environ.get("SLURM_PROCID", "0") == "0":
        error.args = (f"{error}; {requeue()}",)
