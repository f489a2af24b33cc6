"""Signals that stop a command: SIGINT, SIGTERM and SIGUSR1."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name))


class StoppedError(BaseException):
    """A signal stopped the command; the message says how to continue.

    It is no ``Exception``, so that code that tolerates errors, such as the reading of broken images, cannot swallow it.

    Args:
        message: text for the user.
        status: exit status, 128 + signal, as in shells.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class StopHandler:
    """Handler of the stop signals: it raises ``StoppedError`` at once or, while ``deferring``, remembers the signal.

    Attributes:
        received: first signal while deferring; 0 for none.
        deferring: whether the first signal only is remembered; a second one always raises.
        advice: returns the end of the message of an immediate stop.
        on_first: is called with the name of a signal that is remembered.
    """

    def __init__(self) -> None:
        self.received = 0
        self.deferring = False
        self.advice: Callable[[], str] = lambda: ""
        self.on_first: Callable[[str], Any] = lambda name: None
        self._before: dict[int, Any] = {}
        self._pid = os.getpid()

    def install(self) -> None:
        """Handle the signals from now on; only the main thread of a process can."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in STOP_SIGNALS:
            before = signal.signal(number, self._on_signal)
            self._before.setdefault(number, before)

    def restore(self) -> None:
        """Restore the earlier handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def defer(self) -> None:
        """Remember the next signal instead of raising."""
        self.received, self.deferring = 0, True

    def stopped(self, number: int, text: str) -> StoppedError:
        """Return the error of a signal."""
        return StoppedError(f"{signal.Signals(number).name} stopped the command{text}", 128 + number)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a process that was forked without a handler of its own
            signal.signal(number, signal.SIG_DFL)
        elif self.deferring and not self.received:
            self.received = number
            self.on_first(signal.Signals(number).name)
        else:
            raise self.stopped(number, self.advice())


def outlive_first_signal() -> None:
    """In a loader process, ignore the first stop signal, so that the command can save; the second one ends it."""

    def handler(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)

    for number in STOP_SIGNALS:
        signal.signal(number, handler)


_active: list[StopHandler] = []


@contextmanager
def stop_signals() -> Iterator[StopHandler]:
    """Handle the stop signals during the block."""
    handler = StopHandler()
    handler.install()
    _active.append(handler)
    try:
        yield handler
    finally:
        _active.remove(handler)
        handler.restore()


def active_handler() -> StopHandler | None:
    """Return the handler of the innermost ``stop_signals`` block."""
    return _active[-1] if _active else None
