"""Position of a run in its data, as stored in checkpoints."""

from typing import NamedTuple


class DataPosition(NamedTuple):
    """A position between two batches, independent of the number of devices.

    Attributes:
        epoch: number of the epoch, from 0.
        samples: number of samples of that epoch that training has finished, over all devices.
        batches: number of batches of the whole run.
    """

    epoch: int = 0
    samples: int = 0
    batches: int = 0

    def after(self, batches: int, *, global_batch: int, batches_per_epoch: int) -> "DataPosition":
        """Return the position of a run that started here, after ``batches`` batches in total."""
        started = self.samples // global_batch
        epochs, within = divmod(started + batches - self.batches, batches_per_epoch)
        return DataPosition(self.epoch + epochs, within * global_batch, batches)

    def rounded_down(self, global_batch: int) -> "DataPosition":
        """Return the last position between two batches of another size; a few samples are seen again."""
        return self._replace(samples=self.samples // global_batch * global_batch)
