"""An object that lives in a process of its own, so that memory and settings are its alone."""

import multiprocessing
import traceback
from collections.abc import Callable
from typing import Any

import torch

_NO_MEMORY = ("ALLOC_FAILED", "can't allocate memory", "CUDA error: out of memory")  # what torch says otherwise


class OutOfMemoryError(RuntimeError):
    """The device had no memory left for the object, or the system ended its process for taking too much."""


def _serve(pipe: Any, threads: int, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Make the object, then call what is asked until told to end."""
    torch.set_num_threads(threads)
    try:
        held = make(*arguments)
        pipe.send(None)
        while asked := pipe.recv():
            pipe.send(getattr(held, asked[0])(*asked[1:]))
    except Exception as error:
        pipe.send(sendable(error))


def sendable(error: Exception) -> Exception:
    """What the other process is told; the trace of what nobody foresaw is printed here."""
    if isinstance(error, ValueError):
        return error
    told = f"{type(error).__name__}: {error}"
    kinds = (MemoryError, torch.OutOfMemoryError)
    if isinstance(error, kinds) or any(words in told for words in _NO_MEMORY):
        return OutOfMemoryError(told)
    traceback.print_exception(error)
    return RuntimeError(told)


class Remote:
    """Calls methods of an object in another process, which has as many threads as this one.

    Args:
        name: for errors and reports.
        make: function at the top of a module that makes the object.
        arguments: of ``make``.

    Raises:
        ValueError: the object raised it.
        OutOfMemoryError: there was not memory enough.
        RuntimeError: the object raised anything else, which its process prints, or its process ended.
    """

    def __init__(self, name: str, make: Callable[..., Any], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.name = name
        self._pipe, theirs = context.Pipe()
        everything = (theirs, torch.get_num_threads(), make, arguments)
        self._process = context.Process(target=_serve, args=everything, daemon=True)
        self._process.start()
        theirs.close()
        self._answer()

    def ask(self, what: str, *arguments: Any) -> Any:
        """Call a method and wait for its answer."""
        self._pipe.send((what, *arguments))
        return self._answer()

    def end(self) -> None:
        """Let the process go."""
        self._pipe.send(None)
        self._process.join()

    def _answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError:
            self._process.join()
            kind = OutOfMemoryError if self._process.exitcode == -9 else RuntimeError
            raise kind(f"{self.name}: its process ended with status {self._process.exitcode}") from None
        if isinstance(answer, Exception):
            self._process.join()  # so that what it holds of the device is free
            raise answer
        return answer
