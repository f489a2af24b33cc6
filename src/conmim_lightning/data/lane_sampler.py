"""The order in which a stream's lanes are read."""

from collections.abc import Iterator

from conmim_lightning.data.sampler import Resumable, SampleKey

_PLACES = 1 << 32  # a lane's places in an epoch


def lane_and_place(index: int) -> tuple[int, int]:
    """Lane and place in it of a stream's sample number."""
    return divmod(index, _PLACES)


class LaneSampler(Resumable):
    """Batch b of device r of R comes from lane ``(b % lanes) * R + r``, one place after the other.

    Loader process w of W makes batches w, w + W, ... , so if W divides ``lanes`` each lane is read by one process.

    Args:
        num_samples: of this device in an epoch.
        lanes: of this device.
        batch_size: of this device.
        rank: r.
        num_devices: R.
    """

    def __init__(self, num_samples: int, *, lanes: int, batch_size: int, rank: int, num_devices: int) -> None:
        super().__init__()
        self.num_samples = num_samples
        self.lanes = lanes
        self.batch_size = batch_size
        self.rank = rank
        self.num_devices = num_devices

    def __len__(self) -> int:
        """Samples of this device in a whole epoch."""
        return self.num_samples

    def __iter__(self) -> Iterator[SampleKey]:
        """Keys of this device's samples in the current epoch."""
        return (SampleKey(self.epoch, self._index(number)) for number in range(self.start, self.num_samples))

    def _index(self, number: int) -> int:
        batch, within = divmod(number, self.batch_size)
        turn, lane = divmod(batch, self.lanes)
        return (lane * self.num_devices + self.rank) * _PLACES + turn * self.batch_size + within
