"""Where in the data a run stands; what a checkpoint keeps of it."""

from typing import NamedTuple


class Position(NamedTuple):
    """A place between two batches, in numbers that hold for any number of devices.

    Attributes:
        epoch: from 0.
        samples: of that epoch, over all devices, that training has finished.
        batches: of the whole run.
    """

    epoch: int = 0
    samples: int = 0
    batches: int = 0

    def after(self, batches: int, *, batch_over_devices: int, batches_an_epoch: int) -> "Position":
        """The place of a run that started here, when it has finished ``batches`` batches in all."""
        started = self.samples // batch_over_devices
        epochs, within = divmod(started + batches - self.batches, batches_an_epoch)
        return Position(self.epoch + epochs, within * batch_over_devices, batches)

    def samples_a_device(self, batch_size: int, num_devices: int) -> int:
        """How many samples of the epoch each device has had.

        Raises:
            ValueError: the place does not fall between two batches.
        """
        if self.samples % (batch_size * num_devices):
            raise ValueError(
                f"the checkpoint lies {self.samples} samples into epoch {self.epoch}, which is no multiple of the "
                f"batch of {batch_size} x {num_devices} devices; resume with the batch over all devices of the "
                "interrupted run"
            )
        return self.samples // num_devices
