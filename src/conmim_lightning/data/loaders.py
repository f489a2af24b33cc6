"""Data loaders with the settings that suit this project."""

from collections.abc import Callable
from typing import Any

from torch import get_num_threads, set_num_threads
from torch.utils.data import DataLoader, Dataset

from conmim_lightning.data.sampler import EpochSampler

Position = tuple[int, int]
"""Epoch, and batches of it that training has finished."""


def _one_thread(_: int) -> None:
    """Workers share the cores; none may take all of them."""
    if get_num_threads() > 1:
        set_num_threads(1)


class TrainLoader(DataLoader[Any]):
    """Training batches whose position is part of Lightning's checkpoint.

    Lightning asks for the state of every loader that offers one and gives it back before the first batch after a
    resume. What counts is what training has finished, not what the workers have prepared, so the position is asked of
    the trainer.

    Args:
        dataset: takes the sampler's keys.
        sampler: order of the samples.
        batch_size: samples a batch and device.
        num_workers: loader processes; 0 loads in the training process.
        pin_memory: for a GPU.
        position: tells the epoch and its finished batches.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        *,
        sampler: EpochSampler,
        batch_size: int,
        num_workers: int,
        pin_memory: bool,
        position: Callable[[], Position],
    ) -> None:
        super().__init__(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=num_workers,
            pin_memory=pin_memory,
            drop_last=True,
            worker_init_fn=_one_thread,
            persistent_workers=num_workers > 0,
        )
        self._position = position

    def state_dict(self) -> dict[str, int]:
        """Position, in samples of all devices, so that it holds for another batch size a device too."""
        epoch, batches = self._position()
        sampler = self._epoch_sampler()
        return {"epoch": epoch, "samples": batches * self._batch() * sampler.num_devices}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from a saved position.

        Raises:
            ValueError: the position does not fall between two batches of this loader.
        """
        sampler = self._epoch_sampler()
        samples, global_batch = state["samples"], self._batch() * sampler.num_devices
        if samples % global_batch:
            raise ValueError(
                f"the checkpoint lies {samples} samples into epoch {state['epoch']}, which is not a multiple of the "
                f"batch of {global_batch} images over all devices; resume with the batch size of the interrupted run"
            )
        sampler.resume(state["epoch"], samples // sampler.num_devices)

    def _epoch_sampler(self) -> EpochSampler:
        assert isinstance(self.sampler, EpochSampler)
        return self.sampler

    def _batch(self) -> int:
        assert self.batch_size is not None
        return self.batch_size


def evaluation_loader(
    dataset: Dataset[Any], *, batch_size: int, num_workers: int, rank: int, num_devices: int
) -> DataLoader[Any]:
    """Batches of every sample once over all devices, in order; device r of R takes r, r + R, ... ."""
    mine = range(rank, len(dataset), num_devices)  # type: ignore[arg-type]
    return DataLoader(dataset, batch_size=batch_size, sampler=mine, num_workers=num_workers, worker_init_fn=_one_thread)
