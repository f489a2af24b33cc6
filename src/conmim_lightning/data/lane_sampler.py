"""The order in which a stream's lanes are read."""

from collections.abc import Iterator

from torch.utils.data import Sampler

from conmim_lightning.data.sampler import SampleKey

_PLACES = 1 << 32  # a lane's places in an epoch


def lane_and_place(index: int) -> tuple[int, int]:
    """Lane and place in it of a stream's sample number."""
    return divmod(index, _PLACES)


class LaneSampler(Sampler[SampleKey]):
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
        self.num_samples = num_samples
        self.lanes = lanes
        self.batch_size = batch_size
        self.rank = rank
        self.num_devices = num_devices
        self.epoch = 0
        self._resume_epoch, self._resume_from = 0, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration; Lightning calls this."""
        self.epoch = epoch

    def resume(self, epoch: int, consumed: int) -> None:
        """Go on within an epoch, of which this device has had ``consumed`` samples."""
        self.epoch = epoch
        self._resume_epoch, self._resume_from = epoch, consumed

    def __len__(self) -> int:
        """Samples of this device in a whole epoch."""
        return self.num_samples

    def __iter__(self) -> Iterator[SampleKey]:
        """Keys of this device's samples in the current epoch."""
        start = self._resume_from if self.epoch == self._resume_epoch else 0
        return (SampleKey(self.epoch, self._index(number)) for number in range(start, self.num_samples))

    def _index(self, number: int) -> int:
        batch, within = divmod(number, self.batch_size)
        turn, lane = divmod(batch, self.lanes)
        return (lane * self.num_devices + self.rank) * _PLACES + turn * self.batch_size + within
