"""A rank that dies, freezes or fails ends the other ranks, with a message that names it."""

import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
from lightning import Callback, LightningModule, Trainer
from torch.distributed import TCPStore

from conmim_lightning.signals import StoppedError

_INTERVAL = 1.0  # seconds between two beats
_GRACE = 5.0  # seconds for a rank to raise its own error after another rank has failed
_COLLECTIVE = ("gloo", "NCCL", "ProcessGroup", "Connection closed", "Connection reset", "TCPStore")
_TIMED_OUT = ("timed out", "timeout")
_RUNNING, _DONE, _FAILED = "running", "done", "failed"


class RankFailedError(RuntimeError):
    """Another rank died, froze or failed."""


class Heartbeat(Callback):
    """Watch the ranks of a distributed run; on one device, do nothing.

    Each rank writes a beat to the store of the process group every second, in a thread of its own, with any backend.
    A rank whose beat stops ends the others: at once if its process has ended on the same machine, otherwise after
    ``timeout``. A rank that raises an error ends the others with this error's message. A rank that is alive, but whose
    main thread hangs, ends the run after ``trainer.strategy.timeout``, with the batches that the ranks have reached.

    Args:
        timeout: seconds without a beat after which a rank is taken for frozen or lost, > 0.

    Raises:
        ValueError: timeout is not positive.
    """

    def __init__(self, timeout: float = 120.0) -> None:
        if not timeout > 0:
            raise ValueError(f"heartbeat.timeout must be above 0 seconds, got {timeout}")
        self.timeout = timeout
        self._monitor: _Monitor | None = None
        self._children: list[Any] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Start to beat."""
        if trainer.world_size == 1 or self._monitor is not None:
            return
        launched: list[Any] = getattr(trainer.strategy.launcher, "procs", [])
        self._children += launched
        launched.clear()  # Lightning's observer would kill this process, without a message
        self._monitor = _Monitor(trainer.global_rank, trainer.world_size, self.timeout, self._children)
        self._monitor.start()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note the position."""
        if self._monitor:
            self._monitor.position = trainer.fit_loop.epoch_loop.total_batch_idx + 1

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Tell the others that this rank has finished."""
        if self._monitor:
            self._monitor.stop(_DONE)
        self._monitor = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Tell the others; if another rank is the cause, raise an error that names it.

        Raises:
            RankFailedError: the exception is one of communication with another rank.
        """
        monitor, self._monitor = self._monitor, None
        if monitor is None:
            return
        timed_out = any(text in str(exception).lower() for text in _TIMED_OUT)
        cause = monitor.blame(timed_out=timed_out) if _is_of_communication(exception) else ""
        monitor.stop(_FAILED, cause or f"{type(exception).__name__}: {exception}")
        self._end_children(isinstance(exception, StoppedError))
        if cause:
            raise RankFailedError(cause) from exception

    def _end_children(self, by_signal: bool) -> None:
        """End the processes that this rank launched: they may wait for it in an operation for ever."""
        if by_signal:
            for child in self._children:
                child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _GRACE
        for child in self._children:
            with suppress(Exception):
                child.wait(max(0.0, deadline - time.monotonic()))
            if child.poll() is None:
                child.kill()


class _Monitor(threading.Thread):
    """Thread that beats, and reads the beats of the other ranks.

    Args:
        rank: own rank.
        world_size: number of ranks.
        timeout: see ``Heartbeat``.
        children: processes to end if this process must end.
    """

    def __init__(self, rank: int, world_size: int, timeout: float, children: list[Any]) -> None:
        super().__init__(daemon=True, name="heartbeat")
        self.rank, self.timeout, self.children = rank, timeout, children
        self.others = [other for other in range(world_size) if other != rank]
        self.position = 0
        self._state, self._message = _RUNNING, ""
        self._beats: dict[int, list[str]] = {}
        self._seen: dict[int, float] = {}
        self._failed_at: dict[int, float] = {}
        self._answered = time.monotonic()
        self._count = 0
        self._ended = threading.Event()
        self._store = self._connect()
        self._prefix = f"conmim/beat/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"

    def run(self) -> None:
        """Beat until the end; a second thread notices if the store does not answer."""
        threading.Thread(target=self._watch, daemon=True, name="heartbeat-watch").start()
        while not self._ended.is_set():
            with suppress(Exception):  # a store that is gone is noticed by its silence
                self._exchange()
            self._ended.wait(_INTERVAL)

    def stop(self, state: str, message: str = "") -> None:
        """Publish a last state."""
        self._state, self._message = state, message
        self._ended.set()
        closing = threading.Thread(target=self._publish, daemon=True)
        closing.start()
        closing.join(_INTERVAL)

    def blame(self, *, timed_out: bool) -> str:
        """Wait until it is clear which rank is the cause of an error of communication; return a sentence.

        Args:
            timed_out: whether an operation waited too long, so that all ranks may be alive.
        """
        deadline = time.monotonic() + (_GRACE if timed_out else self.timeout + _GRACE)
        while time.monotonic() < deadline:
            if verdict := self._verdict(patient=False):
                return verdict
            time.sleep(_INTERVAL / 2)
        reached = {self.rank: self.position} | {rank: int(beat[1]) for rank, beat in self._beats.items()}
        listed = ", ".join(f"rank {rank} at batch {batch}" for rank, batch in sorted(reached.items()))
        return f"the ranks did not meet: {listed}; see trainer.strategy.timeout"

    def _connect(self) -> TCPStore:
        return TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=False,
            timeout=timedelta(seconds=self.timeout),
            wait_for_workers=False,
        )

    def _publish(self) -> None:
        self._count += 1
        beat = (self._count, self.position, os.getpid(), _machine(), self._state, self._message)
        with suppress(Exception):
            self._store.set(f"{self._prefix}/{self.rank}", "\t".join(str(item).replace("\t", " ") for item in beat))

    def _exchange(self) -> None:
        self._publish()
        for other in self.others:
            key = f"{self._prefix}/{other}"
            if not self._store.check([key]):
                continue  # it has not begun
            beat = self._store.get(key).decode().split("\t")
            if beat != self._beats.get(other):
                self._beats[other], self._seen[other] = beat, time.monotonic()
        self._answered = time.monotonic()

    def _watch(self) -> None:
        woken = time.monotonic()
        while not self._ended.wait(_INTERVAL / 2):
            now, before, woken = time.monotonic(), woken, time.monotonic()
            if now - before > _GRACE:  # this process itself was stopped: the others had no chance to be heard
                self._answered = now
                self._seen = dict.fromkeys(self._seen, now)
                continue
            if verdict := self._verdict(patient=True):
                self._end_process(verdict)

    def _verdict(self, *, patient: bool) -> str:
        """Return a sentence about a rank that has failed; empty if there is none.

        Args:
            patient: leave this process some time to notice the failure of another rank by itself.
        """
        now = time.monotonic()
        for rank, (_, batch, pid, host, state, *message) in list(self._beats.items()):
            if state == _DONE:
                continue
            name = f"rank {rank} (process {pid} on {host.split('/')[0]}, at batch {batch})"
            text = ""
            if state == _FAILED:
                text = f"rank {rank} failed: {' '.join(message)}"
            elif host == _machine() and not _is_alive(int(pid)):
                text = f"{name} has died"
            elif now - self._seen[rank] > self.timeout and now - self._answered < self.timeout:
                text = f"{name} has not responded for {self.timeout:.0f} s"
            if text and (not patient or now - self._failed_at.setdefault(rank, now) > _GRACE):
                return text
        if now - self._answered > self.timeout:
            return f"rank 0 or its machine has not responded for {self.timeout:.0f} s"
        return ""

    def _end_process(self, verdict: str) -> None:
        """End this process, whose main thread waits in an operation that cannot be interrupted."""
        print(f"\nerror: rank {self.rank} ends, because {verdict}", file=sys.stderr, flush=True)
        self._state, self._message = _FAILED, verdict
        for child in self.children:
            with suppress(OSError):
                child.kill()
        os._exit(1)


def _machine() -> str:
    """Return the name of the machine and, on Linux, the namespace in which its process numbers are valid."""
    with suppress(OSError):
        return f"{socket.gethostname()}/{Path('/proc/self/ns/pid').readlink()}"
    return socket.gethostname()


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _is_of_communication(exception: BaseException) -> bool:
    text = f"{type(exception).__name__} {exception}"
    return isinstance(exception, RuntimeError) and any(word in text for word in _COLLECTIVE)
