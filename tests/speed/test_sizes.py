import pytest

from conmim_lightning.speed.sizes import largest_batch, sizes


class Fake:
    """A runner whose memory grows by 10 an image from 100, and which is killed above what there is."""

    def __init__(self, size, there_is=10**9):
        self.size, self.there_is = size, there_is

    def ask(self, what, *arguments):
        if 100 + 10 * self.size > self.there_is:
            raise RuntimeError("OutOfMemoryError: CUDA out of memory")
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


def test_other_errors_are_errors():
    def broken(size):
        raise RuntimeError("TypeError: no")

    with pytest.raises(RuntimeError, match="no"):
        sizes(broken, 8, 10**6, warmup=1, steps=2)
