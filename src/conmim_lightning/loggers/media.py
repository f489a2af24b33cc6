"""Pictures and tables for loggers that accept them, and their common interface."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from lightning import Trainer
from numpy.typing import NDArray

from conmim_lightning.text import displayable

_NAMES = ("class", "confused_with")  # columns with names of classes, which may look like numbers
Cell = str | int | float | None


class BoxLabel(NamedTuple):
    """A box in an image.

    Attributes:
        corners: left, top, right, bottom in pixels.
        label: 0-based class.
        score: 0 to 1; None for an annotation.
    """

    corners: Sequence[float]
    label: int
    score: float | None = None


class Picture(NamedTuple):
    """An image with overlays that a logger may switch on and off.

    Attributes:
        image: (H, W, 3) uint8, without overlays.
        caption: text below the picture.
        class_maps: (H, W) classes by name, such as "prediction"; -1 = no class.
        boxes: boxes by name, in pixels of the image.
        classes: names of the classes.
        drawn: (h, w, 3) uint8, the same with its overlays, for loggers that cannot draw them; None for ``image``.
    """

    image: NDArray[np.uint8]
    caption: str = ""
    class_maps: Mapping[str, NDArray[Any]] = {}
    boxes: Mapping[str, Sequence[BoxLabel]] = {}
    classes: Sequence[str] = ()
    drawn: NDArray[np.uint8] | None = None


@runtime_checkable
class MediaLogger(Protocol):
    """A logger that accepts pictures and tables.

    Attributes:
        log_media: whether it logs them.
    """

    log_media: bool

    def log_pictures(self, name: str, pictures: Sequence[Picture], step: int) -> None:
        """Log pictures under a name, such as "images/views"."""
        ...

    def log_rows(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], step: int) -> None:
        """Log a table under a name, such as "test/per_class"."""
        ...


def media_loggers(trainer: Trainer) -> list[MediaLogger]:
    """Return the loggers of a trainer that log pictures and tables."""
    return [logger for logger in trainer.loggers if isinstance(logger, MediaLogger) and logger.log_media]


def log_pictures(trainer: Trainer, name: str, pictures: Sequence[Picture]) -> None:
    """Log pictures with the last optimizer step, on the first device."""
    if trainer.is_global_zero and pictures:
        shown = [
            picture._replace(caption=displayable(picture.caption), classes=list(map(displayable, picture.classes)))
            for picture in pictures
        ]
        for logger in media_loggers(trainer):
            logger.log_pictures(name, shown, max(0, trainer.global_step - 1))


def log_tsv(trainer: Trainer, name: str, text: str) -> None:
    """Log the lines of tab-separated text, whose first line names the columns, on the first device."""
    if trainer.is_global_zero and (loggers := media_loggers(trainer)):
        header, *lines = (line.split("\t") for line in text.rstrip("\n").split("\n"))
        named = zip(header, zip(*lines, strict=True), strict=True)
        columns = [list(map(displayable, column)) if name in _NAMES else _typed(column) for name, column in named]
        rows = list(zip(*columns, strict=True))
        for logger in loggers:
            logger.log_rows(name, header, rows, max(0, trainer.global_step - 1))


def _typed(column: Sequence[str]) -> list[Cell]:
    """Return a column as numbers, without a value for empty cells, or as it is if a cell is no number."""
    for kind in (int, float):
        with suppress(ValueError):
            return [kind(cell) if cell else None for cell in column]
    return list(column)
