"""The order in which the lanes of a stream are read."""

from collections.abc import Iterator

from conmim_lightning.data.samplers.epoch import ResumableSampler, SampleKey

_LANE_SIZE = 1 << 32  # positions per lane in an epoch


def lane_and_position(index: int) -> tuple[int, int]:
    """Lane, and position in it, of a stream's sample index."""
    return divmod(index, _LANE_SIZE)


class LaneSampler(ResumableSampler):
    """Batch b of device r of R is read from lane ``(b % lanes) * R + r``, in order.

    Loader process w of W loads batches w, w + W, ... , so if W divides ``lanes``, each lane is read by one process.

    Args:
        num_samples: of this device per epoch.
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
        """Samples of this device per epoch."""
        return self.num_samples

    def __iter__(self) -> Iterator[SampleKey]:
        """Yield the keys of this device's samples in the current epoch."""
        return (SampleKey(self.epoch, self._index(number)) for number in range(self.start, self.num_samples))

    def _index(self, number: int) -> int:
        batch, within = divmod(number, self.batch_size)
        cycle, lane = divmod(batch, self.lanes)
        return (lane * self.num_devices + self.rank) * _LANE_SIZE + cycle * self.batch_size + within
