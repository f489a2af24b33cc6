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

    def samples_per_device(self, batch_size: int, num_devices: int) -> int:
        """Return the number of samples of the epoch that each device has already used.

        Raises:
            ValueError: the position is not between two batches.
        """
        if self.samples % (batch_size * num_devices):
            raise ValueError(
                f"the checkpoint is {self.samples} samples into epoch {self.epoch}, which is not a multiple of the "
                f"batch of {batch_size} x {num_devices} devices; resume with the interrupted run's global batch size"
            )
        return self.samples // num_devices
