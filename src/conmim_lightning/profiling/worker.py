"""Objects in a separate process, which isolates memory and settings."""

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

_OUT_OF_MEMORY = ("ALLOC_FAILED", "can't allocate memory", "CUDA error: out of memory")  # in torch's other messages


class OutOfMemoryError(RuntimeError):
    """The device ran out of memory, or the system killed the worker's process for using too much."""


def _serve(pipe: Connection, threads: int, make: Callable[..., object], arguments: tuple[object, ...]) -> None:
    """Create the object, then call its methods until the pipe sends None."""
    torch.set_num_threads(threads)
    try:
        target = make(*arguments)
        pipe.send(None)
        while request := pipe.recv():
            pipe.send(getattr(target, request[0])(*request[1:]))
    except Exception as error:
        pipe.send(sendable(error))


def sendable(error: Exception) -> Exception:
    """Return an exception that the other process can receive; print the traceback of an unexpected one here."""
    if isinstance(error, ValueError):
        return error
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in text for words in _OUT_OF_MEMORY):
        return OutOfMemoryError(text)
    traceback.print_exception(error)
    return RuntimeError(text)


class Worker:
    """Call methods of an object in another process, which uses as many threads as this process.

    Args:
        name: name of the worker in error messages.
        make: function at the top level of a module that creates the object.
        arguments: arguments of ``make``.

    Raises:
        ValueError: the object raised a ValueError.
        OutOfMemoryError: there was not enough memory.
        RuntimeError: the object raised another exception, which its process prints, or its process ended.
    """

    def __init__(self, name: str, make: Callable[..., object], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self.name = name
        self._pipe, other_end = context.Pipe()
        process_arguments = (other_end, torch.get_num_threads(), make, arguments)
        self._process = context.Process(target=_serve, args=process_arguments, daemon=True)
        self._process.start()
        other_end.close()
        self._receive()

    def call(self, method: str, *arguments: object) -> Any:
        """Call a method and wait for its result."""
        self._pipe.send((method, *arguments))
        return self._receive()

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join()

    def _receive(self) -> Any:
        try:
            result = self._pipe.recv()
        except EOFError:
            self._process.join()
            kind = OutOfMemoryError if self._process.exitcode == -9 else RuntimeError
            raise kind(f"{self.name}: its process ended with status {self._process.exitcode}") from None
        if isinstance(result, Exception):
            self._process.join()  # its end frees its memory on the device
            raise result
        return result
