"""The checkpoint with which a run continues."""

import os
from pathlib import Path
from typing import NamedTuple

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from conmim_lightning.files import PARTIAL
from conmim_lightning.slurm import is_restarted, job_id
from conmim_lightning.weights.checkpoint import Checkpoint, read_checkpoint

_AUTO = "auto"


class Resume(NamedTuple):
    """What a run continues with; a fresh run has neither.

    Attributes:
        path: path of the checkpoint.
        checkpoint: content of the checkpoint.
        auto: whether the run continues by itself, so that its folder may hold an earlier start without a checkpoint.
    """

    path: str | None = None
    checkpoint: Checkpoint | None = None
    auto: bool = False

    @property
    def step(self) -> int:
        """Number of optimizer steps in the checkpoint."""
        return int(self.checkpoint["global_step"]) if self.checkpoint else 0


def find_resume(resume: str | None, run_dir: str) -> Resume:
    """Return the checkpoint to continue with, if there is one.

    In a SLURM job that was requeued, null means "auto", and a checkpoint in ``run_dir`` precedes any other.

    Args:
        resume: null; "auto" for the newest checkpoint in ``run_dir`` that can be read, if there is any; the folder of a
            run, for its newest checkpoint that can be read; or a checkpoint.
        run_dir: folder of this run.

    Raises:
        ValueError: the checkpoint cannot be read, or none in the folder can.
    """
    if resume != _AUTO and is_restarted() and (resume is None or checkpoints(run_dir)):
        rank_zero_info(f"SLURM has requeued job {job_id()}: resume=auto")
        resume = _AUTO
    if resume is None:
        return Resume()
    if resume != _AUTO and not os.path.isdir(resume):
        return Resume(resume, read_checkpoint(resume))
    folder = run_dir if resume == _AUTO else resume
    candidates = checkpoints(folder)
    if not candidates and resume == _AUTO:
        rank_zero_info(f"resume=auto: no checkpoint in {folder!r}, so the run starts from the beginning")
        return Resume(auto=True)
    if not candidates:
        raise ValueError(f"resume={resume}: no checkpoint in its folder 'checkpoints'")
    return _newest_readable(candidates, folder)


def checkpoints(run_dir: str | os.PathLike[str]) -> list[Path]:
    """Return the checkpoints of a run, the newest first."""
    named = [path for path in Path(run_dir, "checkpoints").glob("*.ckpt") if PARTIAL not in path.name]
    files = {path.resolve() for path in named if path.exists()}
    return sorted(files, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)


def check_unused(run_dir: str, resume: str | None, *, continues: bool) -> None:
    """Raise ValueError if a folder holds another run than the resumed one, whose records would be replaced.

    Args:
        run_dir: folder of this run.
        resume: checkpoint to continue with, if there is one.
        continues: whether the folder may hold an earlier start of this run, without a checkpoint.
    """
    record = Path(run_dir, "run.yaml")
    same = resume is not None and Path(run_dir).resolve() in Path(resume).resolve().parents
    if same or (continues and resume is None) or not record.exists():
        return
    raise ValueError(
        f"{run_dir!r} already holds a run; resume=auto continues it, paths.run_dir=... is the folder of a new one"
    )


def _newest_readable(candidates: list[Path], folder: str) -> Resume:
    damage: list[str] = []
    for path in candidates:
        try:
            checkpoint = read_checkpoint(path)
        except ValueError as error:
            damage.append(str(error))
            continue
        if damage:
            rank_zero_warn(f"{'; '.join(damage)}; the run continues with the one before, {str(path)!r}")
        rank_zero_info(f"continuing with {os.path.relpath(path)}, after step {checkpoint.get('global_step')}")
        return Resume(str(path), checkpoint)
    raise ValueError(f"no checkpoint in {folder!r} can be read: {'; '.join(damage)}")
