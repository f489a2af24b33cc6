"""Sampling order of a stream, which is divided into lanes (endless sequences of images)."""

from collections.abc import Iterator

from conmim_lightning.data.samplers.epoch import ResumableSampler, SampleKey

_LANE_SIZE = 1 << 32  # positions per lane in an epoch


def lane_and_position(index: int) -> tuple[int, int]:
    """Return the lane of a stream's sample index, and the position in that lane."""
    return divmod(index, _LANE_SIZE)


class LaneSampler(ResumableSampler):
    """Sample batch b of device r of R from lane ``(b % lanes) * R + r``, in the lane's order.

    Loader process w of W loads batches w, w + W, ... . If W divides ``lanes``, one process reads each lane.

    Args:
        num_samples: number of samples per epoch on this device.
        lanes: number of lanes of this device.
        batch_size: batch size on this device.
        rank: rank r of this device.
        num_devices: number of devices R.
    """

    def __init__(self, num_samples: int, *, lanes: int, batch_size: int, rank: int, num_devices: int) -> None:
        super().__init__()
        self.num_samples = num_samples
        self.lanes = lanes
        self.batch_size = batch_size
        self.rank = rank
        self.num_devices = num_devices

    def __len__(self) -> int:
        """Number of samples per epoch on this device."""
        return self.num_samples

    def __iter__(self) -> Iterator[SampleKey]:
        """Yield the keys of this device's samples in the current epoch."""
        return (SampleKey(self.epoch, self._index(number)) for number in range(self.start, self.num_samples))

    def _index(self, number: int) -> int:
        batch, within = divmod(number, self.batch_size)
        cycle, lane = divmod(batch, self.lanes)
        return (lane * self.num_devices + self.rank) * _LANE_SIZE + cycle * self.batch_size + within
