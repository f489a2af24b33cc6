"""Checkpoints from which a run resumes exactly, also after a signal."""

import os
import signal
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info

from conmim_lightning.callbacks.checkpoint_io import AtomicCheckpointIO, OnWriteError, link
from conmim_lightning.callbacks.stop_signals import agreed_signal, restore_sigterm_check, skip_sigterm_check
from conmim_lightning.files import remove_partial
from conmim_lightning.signals import StopHandler, StoppedError, active_handler

_AGREE_EVERY = 16  # optimizer steps between checks for signals on other devices; each check synchronises
_STATE = ("best_k_models", "kth_best_model_path", "kth_value", "best_model_path", "best_model_score", "current_score")
_SAVED = ("_last_checkpoint_saved", "_last_global_step_saved")


class RunCheckpoint(ModelCheckpoint):
    """``ModelCheckpoint`` with the same arguments that saves only between optimizer steps, and at every stop.

    - A stop within an epoch (``max_time``, ``max_steps``, anything that sets ``should_stop``) saves at once, with
      the position in the epoch; Lightning then ends the epoch, which does not save again.
    - SIGINT, SIGTERM and SIGUSR1 save after the current optimizer step and end the run with ``StoppedError``; a second
      signal ends it at once. In a SLURM job, ``train`` also requeues the job after SIGUSR1.
    - A checkpoint due at the last batch of an epoch is saved at the end of the epoch: Lightning miscounts epochs after
      two resumes from last batches.
    - Between accumulated batches the run neither saves nor stops, because the accumulated gradient would be lost.
    - The end of training is always saved.
    - A file is complete or absent, see ``AtomicCheckpointIO``; ``last.ckpt`` always links to a complete checkpoint.

    Args:
        *args: see ``ModelCheckpoint``.
        save_top_k: without ``monitor``, number of newest checkpoints to keep; -1 for all.
        on_write_error: "stop" ends the run if a checkpoint cannot be written; "continue" warns and tries again at the
            next save. The save at the end of a run always raises.
        requeue: whether SIGUSR1 requeues a SLURM job.
        **kwargs: see ``ModelCheckpoint``.
    """

    def __init__(
        self,
        *args: Any,
        save_top_k: int = 1,
        on_write_error: OnWriteError = "stop",
        requeue: bool = True,
        **kwargs: Any,
    ) -> None:
        monitor = args[2] if len(args) > 2 else kwargs.get("monitor")
        several = monitor is None and save_top_k > 1  # which Lightning rejects
        super().__init__(*args, save_top_k=1 if several else save_top_k, **kwargs)
        self.checkpoint_io = AtomicCheckpointIO(on_write_error)
        self.requeue = requeue
        self._num_newest = save_top_k if several else 1
        self._saved: list[str] = []
        self._write_failed = self._deferred_stop = self._save_due = False
        self._stopped = 0
        self._log_pending: Callable[[], None] | None = None
        self._handler: StopHandler | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write checkpoints completely or not at all; remove what a killed process left."""
        super().setup(trainer, pl_module, stage)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = self.checkpoint_io
        if trainer.is_global_zero and self.dirpath and stage == "fit":
            remove_partial(self.dirpath)
        for logger in trainer.loggers:
            if hasattr(logger, "on_write_error"):
                setattr(logger, "on_write_error", self.checkpoint_io.on_write_error)  # noqa: B010

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember signals until the end of a step."""
        super().on_train_start(trainer, pl_module)
        last = self._last_path
        if self._resumed_here(trainer) and not self.last_model_path and self.file_exists(last, trainer):
            self.last_model_path = last  # of the same run, whose first checkpoint does not know it
        self._deferred_stop, self._save_due, self._stopped = False, False, 0
        self._handler = active_handler() or StopHandler()
        self._handler.install()  # again: Lightning has replaced the handler of SIGTERM
        self._handler.on_first = lambda name: rank_zero_info(
            f"{name}: saving after this step; send it again to stop at once"
        )
        self._handler.defer()
        skip_sigterm_check(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if a checkpoint is due, or if the run is about to stop."""
        if trainer.fit_loop._should_accumulate():
            self._deferred_stop |= trainer.should_stop
            trainer.should_stop = False
            return
        trainer.should_stop |= self._deferred_stop
        if trainer.world_size == 1 or trainer.global_step % _AGREE_EVERY == 0:
            self._stopped = self._stopped_by(trainer)
        stopping = self._stopped or trainer.should_stop or 0 < trainer.max_steps <= trainer.global_step
        if trainer.fit_loop.epoch_loop.batch_progress.current.ready >= trainer.num_training_batches:
            every = self._every_n_train_steps
            self._save_due = bool(stopping) or (every > 0 and trainer.global_step % every == 0)
            return
        self._log_pending = trainer._logger_connector.update_train_step_metrics
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if stopping:
            self._save_now(trainer, is_last=True)
        self._log_pending = None
        self._raise_if_stopped(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save as usual, and if a checkpoint was due at the epoch's last batch or a signal has arrived since."""
        self._log_pending = trainer._logger_connector.update_train_epoch_metrics
        super().on_train_epoch_end(trainer, pl_module)
        self._stopped = self._stopped or self._stopped_by(trainer)
        if self._save_due or self._stopped:
            self._save_now(trainer, is_last=bool(self._stopped))
        self._log_pending, self._save_due = None, False
        self._raise_if_stopped(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of training unless it has been saved."""
        self._save_now(trainer, is_last=True)
        super().on_train_end(trainer, pl_module)
        self._stopped = self._stopped_by(trainer)
        self._raise_if_stopped(trainer)
        self._release_signals()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Point the link to the newest checkpoint, if a kill came before and there was nothing more to train."""
        if self.save_last == "link" and not self._last_checkpoint_saved and self._resumed_here(trainer):
            self._link_checkpoint(trainer, str(Path(str(trainer.ckpt_path)).resolve()), self._last_path)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save if Lightning's ``save_on_exception`` is set, and restore the handlers of signals."""
        super().on_exception(trainer, pl_module, exception)
        self._release_signals()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let signals stop the command at once again."""
        super().teardown(trainer, pl_module, stage)
        self._release_signals()
        restore_sigterm_check(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Return Lightning's state and the files to remove later."""
        return super().state_dict() | {"saved": list(self._saved)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state, also in a folder that was moved; of another folder, only the best checkpoint's path."""
        super().load_state_dict(state_dict)
        here = [os.path.join(str(self.dirpath), os.path.basename(path)) for path in state_dict.get("saved", ())]
        self._saved = [path for path in here if os.path.exists(path)]

    def _save_topk_checkpoint(self, trainer: Trainer, monitor_candidates: dict[str, Any]) -> None:
        """Save; if the file cannot be written, restore the state, so that the next save tries again.

        What Lightning logs after this hook is logged before, because a resumed run does not log it again.
        """
        if self._log_pending is not None:
            self._log_pending()
        self._log_pending = None
        for logger in trainer.loggers:
            logger.save()
        before = {name: copy(getattr(self, name)) for name in (*_STATE, *_SAVED, "_saved")}
        self._write_failed = False
        super()._save_topk_checkpoint(trainer, monitor_candidates)
        if self._write_failed:
            vars(self).update(before)

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        if self._num_newest > 1 and filepath not in (*self._saved, self.last_model_path):
            self._saved.append(filepath)
        before = {name: getattr(self, name) for name in _SAVED}
        super()._save_checkpoint(trainer, filepath)
        if self.checkpoint_io.on_write_error == "continue":
            self._write_failed = bool(trainer.strategy.broadcast(self.checkpoint_io.failed))
        if self._write_failed:
            vars(self).update(before)

    def _save_last_checkpoint(self, trainer: Trainer, monitor_candidates: dict[str, Any]) -> None:
        if not self._write_failed:
            super()._save_last_checkpoint(trainer, monitor_candidates)

    @staticmethod
    def _link_checkpoint(trainer: Trainer, filepath: str, linkpath: str) -> None:
        """Replace the link atomically, so that a valid link exists even if the process is killed."""
        if trainer.is_global_zero and Path(filepath).absolute() != Path(linkpath).absolute():
            link(filepath, linkpath)
        trainer.strategy.barrier()

    def _remove_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        """Point the link to the newer checkpoint, then remove the oldest of those that are too many."""
        if self._write_failed:
            return
        if self.save_last == "link" and self.last_model_path and self._last_checkpoint_saved != filepath:
            self._link_checkpoint(trainer, self._last_checkpoint_saved, self.last_model_path)
        if self._num_newest == 1 or filepath not in self._saved:
            super()._remove_checkpoint(trainer, filepath)
        while len(self._saved) > self._num_newest:
            super()._remove_checkpoint(trainer, self._saved.pop(0))

    @property
    def _last_path(self) -> str:
        return os.path.join(str(self.dirpath), f"{self.CHECKPOINT_NAME_LAST}{self.FILE_EXTENSION}")

    def _resumed_here(self, trainer: Trainer) -> bool:
        """Return whether the run continues with a checkpoint of its own folder."""
        return trainer.ckpt_path is not None and str(Path(trainer.ckpt_path).resolve().parent) == self.dirpath

    def _stopped_by(self, trainer: Trainer) -> int:
        """Return the signal that any device received; 0 if there is none. All devices must call this."""
        return agreed_signal(trainer, self._handler.received if self._handler else 0)

    def _raise_if_stopped(self, trainer: Trainer) -> None:
        if not self._stopped:
            return
        name, step = signal.Signals(self._stopped).name, trainer.global_step
        resume = f" resume={self.last_model_path or self.best_model_path}" if self.dirpath else "out a checkpoint"
        raise StoppedError(f"{name} stopped the run after step {step}; continue with{resume}", 128 + self._stopped)

    def _release_signals(self) -> None:
        if self._handler is None:
            return
        self._handler.deferring = False
        if self._handler is not active_handler():
            self._handler.restore()
        self._handler = None

    def _save_now(self, trainer: Trainer, *, is_last: bool) -> None:
        """Save unless this step has been saved; an error of the last save of a run is always raised."""
        if self._should_skip_saving_checkpoint(trainer):
            return
        on_write_error = self.checkpoint_io.on_write_error
        self.checkpoint_io.on_write_error = "stop" if is_last else on_write_error
        try:
            candidates = self._monitor_candidates(trainer)
            self._save_topk_checkpoint(trainer, candidates)
            if is_last and self._last_global_step_saved != trainer.global_step:  # not among the best of ``monitor``
                self.last_model_path = self._last_path
                self._save_checkpoint(trainer, self.last_model_path)
            else:
                self._save_last_checkpoint(trainer, candidates)
        finally:
            self.checkpoint_io.on_write_error = on_write_error
