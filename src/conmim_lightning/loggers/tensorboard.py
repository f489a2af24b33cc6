"""TensorBoard with the pictures and tables of a run."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from conmim_lightning.loggers.media import Cell, Picture


class RunTensorBoardLogger(TensorBoardLogger):
    """``TensorBoardLogger`` that also logs pictures, and tables as text.

    Args:
        *args: see ``TensorBoardLogger``.
        log_media: whether pictures and tables are logged.
        **kwargs: see ``TensorBoardLogger``.
    """

    def __init__(self, *args: Any, log_media: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.log_media = log_media

    @rank_zero_only
    def log_pictures(self, name: str, pictures: Sequence[Picture], step: int) -> None:
        """Log pictures with their overlays drawn; captions are logged as text if there are any."""
        for number, picture in enumerate(pictures):
            drawn = picture.image if picture.drawn is None else picture.drawn
            self.experiment.add_image(f"{name}/{number}", np.ascontiguousarray(drawn), step, dataformats="HWC")
            if picture.caption:
                self.experiment.add_text(f"{name}/{number}/caption", picture.caption, step)

    @rank_zero_only
    def log_rows(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], step: int) -> None:
        """Log a table as Markdown."""
        lines = [columns, ["---"] * len(columns), *rows]
        text = "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
        self.experiment.add_text(name, text, step)
