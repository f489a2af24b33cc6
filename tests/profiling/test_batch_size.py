import pytest

from conmim_lightning.profiling.batch_size import largest_batch, scan_batch_sizes
from conmim_lightning.profiling.worker import OutOfMemoryError


class Fake:
    """A worker whose memory grows from 100 by 10 per image, and which fails if that exceeds what is available."""

    def __init__(self, size, available=10**9):
        self.size, self.available = size, available

    def call(self, method, *arguments):
        if 100 + 10 * self.size > self.available:
            raise OutOfMemoryError("CUDA out of memory")
        return {"step": [0.5] * arguments[0]} if method == "steps" else 100 + 10 * self.size

    def close(self):
        pass


def test_largest_batch():
    assert largest_batch((4, 140), (8, 180), 1100) == 100
    assert largest_batch((4, 140), (8, 180), 50) == 0
    assert largest_batch((4, 140), (8, 140), 10**6) == 8, "the memory per image is unknown"


@pytest.mark.parametrize(
    ("limit", "tried"),
    [
        (1100, [8, 16, 32, 64, 96]),  # 100 would fit: 96 is the next multiple of 8
        (100 + 10 * 68, [8, 16, 32, 64]),  # 64 is nearly the largest
        (200, [8]),  # twice the memory of the first is not there
    ],
)
def test_sizes_double_and_end_with_the_largest(limit, tried):
    results = scan_batch_sizes(Fake, 8, limit, warmup=1, steps=2)
    assert [result["batch_size"] for result in results] == tried
    assert results[0] == {"batch_size": 8, "step": [0.5, 0.5], "peak_bytes": 180}


def test_running_out_of_memory_ends_the_list():
    results = scan_batch_sizes(lambda size: Fake(size, available=300), 8, 10**6, warmup=1, steps=2)
    assert [result["batch_size"] for result in results] == [8, 16, 32]
    assert results[-1]["step"] is results[-1]["peak_bytes"] is None


def test_other_errors_are_errors():
    def broken(size):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        scan_batch_sizes(broken, 8, 10**6, warmup=1, steps=2)
