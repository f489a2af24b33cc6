import os

import pytest
import torch
from counter import Counter

from conmim_lightning.profiling.worker import OutOfMemoryError, Worker, sendable


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), OutOfMemoryError),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), OutOfMemoryError),
        (RuntimeError("CUDA error: out of memory"), OutOfMemoryError),
        (MemoryError(), OutOfMemoryError),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), RuntimeError),
        (ValueError("no"), ValueError),
    ],
)
def test_exceptions_are_converted_for_the_other_process(error, kind, capfd):
    assert type(sendable(error)) is kind
    assert ("illegal" in capfd.readouterr().err) == (kind is RuntimeError), "unexpected errors are printed"


def test_methods_are_called_in_another_process():
    worker = Worker("counter", Counter, 3)
    value, process, threads = worker.call("add", 2)
    assert (value, threads) == (5, torch.get_num_threads())
    assert process != os.getpid()
    assert worker.call("add", 1)[:2] == (6, process)
    worker.close()
    with pytest.raises(ValueError, match="start must be at least 0, got -1"):
        Worker("counter", Counter, -1)


@pytest.mark.parametrize(
    ("request_", "kind", "message"),
    [(("exit", 7), RuntimeError, "counter: .* status 7"), (("kill",), OutOfMemoryError, "counter: .* status -9")],
)
def test_a_process_that_ends_is_reported(request_, kind, message):
    worker = Worker("counter", Counter, 0)
    with pytest.raises(kind, match=message) as caught:
        worker.call(*request_)
    assert type(caught.value) is kind
