import pytest
import torch

from conmim_lightning.speed.remote import OutOfMemoryError, sendable
from conmim_lightning.speed.sizes import largest_batch, sizes


class Fake:
    """A runner whose memory grows by 10 an image from 100, and which is killed above what there is."""

    def __init__(self, size, there_is=10**9):
        self.size, self.there_is = size, there_is

    def ask(self, what, *arguments):
        if 100 + 10 * self.size > self.there_is:
            raise OutOfMemoryError("CUDA out of memory")
        return {"step": [0.5] * arguments[0]} if what == "steps" else 100 + 10 * self.size

    def end(self):
        pass


def test_largest_batch():
    assert largest_batch((4, 140), (8, 180), 1100) == 100
    assert largest_batch((4, 140), (8, 180), 50) == 0
    assert largest_batch((4, 140), (8, 140), 10**6) == 8, "nothing is known of what an image takes"


@pytest.mark.parametrize(
    ("limit", "tried"),
    [
        (1100, [8, 16, 32, 64, 96]),  # 100 would fit: 96 is the next multiple of 8
        (100 + 10 * 68, [8, 16, 32, 64]),  # 64 is nearly the largest
        (200, [8]),  # twice the memory of the first is not there
    ],
)
def test_sizes_double_and_end_with_the_largest(limit, tried):
    found = sizes(Fake, 8, limit, warmup=1, steps=2)
    assert [one["batch_size"] for one in found] == tried
    assert found[0] == {"batch_size": 8, "step": [0.5, 0.5], "peak_bytes": 180}


def test_running_out_of_memory_ends_the_list():
    found = sizes(lambda size: Fake(size, there_is=300), 8, 10**6, warmup=1, steps=2)
    assert [one["batch_size"] for one in found] == [8, 16, 32]
    assert found[-1]["step"] is found[-1]["peak_bytes"] is None


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
def test_what_the_other_process_is_told(error, kind, capfd):
    assert type(sendable(error)) is kind
    assert ("illegal" in capfd.readouterr().err) == (kind is RuntimeError), "what nobody foresaw is printed"


def test_other_errors_are_errors():
    def broken(size):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        sizes(broken, 8, 10**6, warmup=1, steps=2)
