"""Checkpoints from which a run resumes exactly, also after a signal."""

import os
import shutil
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))
_AGREE_EVERY = 16  # batches between checks for signals on other devices; each check synchronises
_SIGTERM_CHECK = "_broadcast_sigterm_tensor"  # Lightning's method, called before each batch


class StoppedError(Exception):
    """A signal stopped the run; the message names the checkpoint.

    Args:
        message: text for the user.
        status: exit status, 128 + signal, as in shells.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class RunCheckpoint(ModelCheckpoint):
    """``ModelCheckpoint`` with the same arguments that saves only between optimizer steps, and at every stop.

    - A stop within an epoch (``max_time``, ``max_steps``, anything that sets ``should_stop``) saves at once, with
      the position in the epoch; Lightning then ends the epoch, which does not save again.
    - SIGINT, SIGTERM and SIGUSR1 save after the current optimizer step and end the run with ``StoppedError``; a second
      signal has its usual effect.
    - A checkpoint due at the last batch of an epoch is saved at the end of the epoch: Lightning miscounts epochs after
      two resumes from last batches.
    - Between accumulated batches the run neither saves nor stops, because the accumulated gradient would be lost.
    - The end of training is always saved.
    - ``last.ckpt`` always links to a complete checkpoint.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._signal: int | None = None
        self._deferred_stop = self._save_due = False
        self._stopped = 0
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Install the signal handlers."""
        super().on_train_start(trainer, pl_module)
        self._signal, self._deferred_stop, self._save_due, self._stopped = None, False, False, 0
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
            if trainer.world_size > 1:
                _skip_sigterm_check(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if a checkpoint is due, or if the run is about to stop."""
        if trainer.fit_loop._should_accumulate():
            self._deferred_stop |= trainer.should_stop
            trainer.should_stop = False
            return
        trainer.should_stop |= self._deferred_stop
        self._stopped = self._stopped_by(trainer, batch_idx)
        stopping = self._stopped or trainer.should_stop or 0 < trainer.max_steps <= trainer.global_step
        if trainer.fit_loop.epoch_loop.batch_progress.current.ready >= trainer.num_training_batches:
            every = self._every_n_train_steps
            self._save_due = bool(stopping) or (every > 0 and trainer.global_step % every == 0)
            return
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if stopping:
            self._save_now(trainer)
        self._raise_if_stopped(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save as usual, and if a checkpoint was due at the epoch's last batch."""
        super().on_train_epoch_end(trainer, pl_module)
        if self._save_due:
            self._save_now(trainer)
        self._save_due = False
        self._raise_if_stopped(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of training unless it has been saved."""
        self._save_now(trainer)
        super().on_train_end(trainer, pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the signal handlers."""
        super().teardown(trainer, pl_module, stage)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
        vars(trainer.fit_loop.epoch_loop).pop(_SIGTERM_CHECK, None)

    @staticmethod
    def _link_checkpoint(trainer: Trainer, filepath: str, linkpath: str) -> None:
        """Replace the link atomically, so that a valid link exists even if the process is killed."""
        if trainer.is_global_zero and Path(filepath).absolute() != Path(linkpath).absolute():
            temporary = Path(f"{linkpath}.new")
            temporary.unlink(missing_ok=True)
            try:
                temporary.symlink_to(os.path.relpath(filepath, Path(linkpath).parent))
            except OSError:  # a file system without links
                shutil.copy(filepath, temporary)
            temporary.replace(linkpath)
        trainer.strategy.barrier()

    def _remove_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        """Point the link to the newer checkpoint before the older one is removed."""
        if self.save_last == "link" and self.last_model_path and self._last_checkpoint_saved != filepath:
            self._link_checkpoint(trainer, self._last_checkpoint_saved, self.last_model_path)
        super()._remove_checkpoint(trainer, filepath)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Remember the first signal; handle the second as before."""
        if self._signal is None:
            self._signal = number
            rank_zero_info(f"{signal.Signals(number).name}: saving after this step; send it again to stop at once")
            return
        before = self._before[number]
        if callable(before):
            before(number, frame)
        else:
            signal.signal(number, before)
            signal.raise_signal(number)

    def _stopped_by(self, trainer: Trainer, batch_idx: int) -> int:
        """Return the signal that this device or, every few batches, any device received; 0 if there is none."""
        own = self._signal or 0
        if trainer.world_size == 1:
            return own
        if batch_idx % _AGREE_EVERY:
            return 0
        received = trainer.strategy.reduce_boolean_decision(bool(own), all=False)
        return (own or int(signal.SIGTERM)) if received else 0

    def _raise_if_stopped(self, trainer: Trainer) -> None:
        if self._stopped:
            name, step = signal.Signals(self._stopped).name, trainer.global_step
            raise StoppedError(
                f"{name} stopped the run after step {step}; continue with{self._how_to_resume()}", 128 + self._stopped
            )

    def _save_now(self, trainer: Trainer) -> None:
        if not self._should_skip_saving_checkpoint(trainer):
            candidates = self._monitor_candidates(trainer)
            self._save_topk_checkpoint(trainer, candidates)
            self._save_last_checkpoint(trainer, candidates)

    def _how_to_resume(self) -> str:
        return f" resume={self.last_model_path or self.best_model_path}" if self.dirpath else "out a checkpoint"


def _skip_sigterm_check(trainer: Any) -> None:
    """Disable Lightning's check for SIGTERM on other devices before each batch, because it waits for the GPU."""
    setattr(trainer.fit_loop.epoch_loop, _SIGTERM_CHECK, lambda: None)
