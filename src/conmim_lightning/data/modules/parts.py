"""What data modules of annotated images have in common: parts to train on, to validate, to test and to predict."""

from collections.abc import Callable, Sequence
from typing import Any

from torch.utils.data import DataLoader

from conmim_lightning.data.checks import at_least
from conmim_lightning.data.decode import Decoder
from conmim_lightning.data.files import check_folder
from conmim_lightning.data.lists import read_names
from conmim_lightning.data.modules.resumable import ResumableDataModule
from conmim_lightning.data.sources import Source
from conmim_lightning.data.summary import summarize


class PartsDataModule(ResumableDataModule):
    """Annotated images in parts; a subclass finds them in ``setup`` and gives loaders in ``evaluation``.

    Args:
        root: where the collection lies.
        decoder: of the images' bytes.
        mean: of the images, per channel, in units of the full range; the task normalises with it.
        std: likewise, > 0.
        batch_size: images a step and device.
        evaluation_batch_size: images a batch where nothing is trained.
        seed: of the order.
        parts: names of the parts "train", "val" and "test".
        exclude: list of training images to leave out; null for none.
        num_workers: loader processes; null takes one for each usable core, at most 16.
        predict_root: folder of images to predict; null for none.
        prepare: makes the files where they are missing, once a machine; null where they exist already.

    Raises:
        ValueError: a number is out of range, or a folder does not exist.
    """

    def __init__(
        self,
        *,
        root: str,
        decoder: Decoder,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        evaluation_batch_size: int,
        seed: int,
        parts: dict[str, str],
        exclude: str | None,
        num_workers: int | None,
        predict_root: str | None,
        prepare: Callable[[], None] | None,
    ) -> None:
        super().__init__(root=root, batch_size=batch_size, seed=seed, num_workers=num_workers)
        if len(mean) != decoder.channels or len(std) != decoder.channels:
            raise ValueError(
                f"mean and std need {decoder.channels} entries, one a channel, got {list(mean)} and {list(std)}"
            )
        at_least(1, batch_size=batch_size, evaluation_batch_size=evaluation_batch_size)
        for folder in (predict_root, root if prepare is None and predict_root is None else None):
            check_folder(folder or ".")
        self.decoder = decoder
        self.mean, self.std = tuple(mean), tuple(std)
        self.evaluation_batch_size = evaluation_batch_size
        self.names = parts
        self.excluded = read_names(exclude) if exclude else set()
        self.predict_root = predict_root
        self.prepare = prepare
        self.classes: Sequence[str] | None = None
        self.sources: dict[str, Source] = {}

    def prepare_data(self) -> None:
        """Make the files, where the configuration says how."""
        if self.prepare and not self.predict_root:
            self.prepare()

    def summary(self) -> str:
        """What was found: count, formats, sizes, broken images."""
        told = [summarize(self.sources["train"], self.decoder)]
        told += [f"{part}: {len(self.sources[part]):,} images" for part in ("val", "test") if part in self.sources]
        return "\n  ".join(told)

    def name(self, part: str, index: int) -> str:
        """Where an image of a part lies."""
        return self.sources[part].name(index)

    def val_dataloader(self) -> DataLoader[Any]:
        """Every validation image once over all devices."""
        return self.evaluation("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Every test image once over all devices."""
        return self.evaluation("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """Every image of ``predict_root`` once over all devices."""
        return self.evaluation("predict")

    def evaluation(self, part: str) -> DataLoader[Any]:
        """Every image of a part once over all devices, in order."""
        raise NotImplementedError
