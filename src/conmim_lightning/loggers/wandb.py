"""Weights & Biases with the pictures and tables of a run, and axes and summaries of its metrics."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from conmim_lightning.loggers.media import BoxLabel, Cell, Picture

_LARGEST = 255  # of a class in wandb's masks, which have 8 bits
STEP = "trainer/global_step"
"""Metric with the optimizer step, Lightning's name."""

_SMALLER_IS_BETTER = ("train/loss", "val/loss", "val/calibration_error", "test/calibration_error")
_LARGER_IS_BETTER = ("train/retrieval_top1", "val/*", "test/*")


class RunWandbLogger(WandbLogger):
    """``WandbLogger`` that also logs pictures and tables; summaries hold the best and the last value.

    Charts have the optimizer step as x-axis; "epoch" is logged with each metric, as another x-axis.

    Args:
        *args: see ``WandbLogger``.
        save_dir: folder for wandb's files.
        log_media: whether pictures and tables are logged.
        **kwargs: see ``WandbLogger``.
    """

    def __init__(self, *args: Any, save_dir: str = ".", log_media: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, save_dir=str(Path(save_dir).absolute()), **kwargs)  # wandb's process may run elsewhere
        self.log_media = log_media
        self._defined = False

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:  # type: ignore[override]
        """The run of wandb; its metrics are defined when it is first used."""
        run = super().experiment
        if not self._defined:
            self._defined = True
            run.define_metric("epoch", step_metric=STEP)
            for names, best in ((_LARGER_IS_BETTER, "max"), (_SMALLER_IS_BETTER, "min")):
                for name in names:
                    run.define_metric(name, step_metric=STEP, summary=f"{best},last")
        return run

    @rank_zero_only
    def log_pictures(self, name: str, pictures: Sequence[Picture], step: int) -> None:
        """Log pictures with overlays of class maps and boxes."""
        self.log_metrics({name: [_image(picture) for picture in pictures]}, step)  # type: ignore[dict-item]

    @rank_zero_only
    def log_rows(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], step: int) -> None:
        """Log a table."""
        self.log_table(name, columns=list(columns), data=[list(row) for row in rows], step=step)

    @rank_zero_only
    def close(self) -> None:
        """End the run of wandb, so that the next run of a sweep has its own."""
        if self._experiment is not None:
            self._experiment.finish()


def log_artifact(
    path: Path, *, name: str, kind: str, folder: str, settings: Mapping[str, Any], metadata: Mapping[str, Any]
) -> None:
    """Log a file or folder as an artifact of a run, which is continued if it exists.

    Args:
        path: file or folder.
        name: name of the artifact.
        kind: its type, such as "model".
        folder: folder for wandb's files.
        settings: arguments of ``wandb.init`` that identify the run, such as id and project.
        metadata: what to store with it.
    """
    artifact = wandb.Artifact(name, type=kind, metadata=dict(metadata))
    add = artifact.add_dir if path.is_dir() else artifact.add_file
    add(str(path))
    with wandb.init(dir=folder, resume="allow", **settings) as run:
        run.log_artifact(artifact)


def _image(picture: Picture) -> wandb.Image:
    labels = dict(enumerate(picture.classes))
    unlabelled = len(labels)  # wandb's masks hold no negative numbers
    names = labels | {unlabelled: "no class"}
    masks = {
        name: {"mask_data": classes.astype(int) % (unlabelled + 1), "class_labels": names}
        for name, classes in picture.class_maps.items()
        if unlabelled <= _LARGEST
    }
    boxes = {
        name: {"box_data": [_box(box, picture.classes) for box in given], "class_labels": labels}
        for name, given in picture.boxes.items()
        if given
    }
    image = picture.drawn if picture.class_maps and not masks and picture.drawn is not None else picture.image
    return wandb.Image(image, caption=picture.caption or None, masks=masks or None, boxes=boxes or None)


def _box(box: BoxLabel, classes: Sequence[str]) -> dict[str, Any]:
    left, top, right, bottom = (float(value) for value in box.corners)
    caption = classes[box.label] + ("" if box.score is None else f" {box.score:.2f}")
    scores = {} if box.score is None else {"scores": {"score": float(box.score)}}
    position = {"minX": left, "maxX": right, "minY": top, "maxY": bottom}
    return {"position": position, "domain": "pixel", "class_id": box.label, "box_caption": caption, **scores}
