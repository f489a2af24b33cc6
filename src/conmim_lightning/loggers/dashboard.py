"""The project's dashboard of Weights & Biases: ``python -m conmim_lightning.loggers.dashboard <entity> [<project>]``.

It needs a key (``wandb login``) and ``pip install 'conmim-lightning[dashboard]'``.
"""

import argparse
from typing import Any

from conmim_lightning.loggers.wandb import STEP

CHARTS: dict[str, list[list[str]]] = {
    "Pretext task": [
        ["train/loss"],
        ["train/retrieval_top1", "train/position_only_top1"],
        ["train/position_only_fraction"],
        ["train/positive_similarity", "train/hardest_negative_similarity"],
    ],
    "Features": [
        ["val/knn_top1", "val/knn_top1_start", "val/knn_top1_pixels"],
        ["val/dense_auroc_object", "val/dense_auroc_object_start", "val/dense_auroc_object_pixels"],
        ["val/dense_auroc_class", "val/dense_auroc_class_start", "val/dense_auroc_class_pixels"],
    ],
    "Collapse": [["train/key_rank"], ["train/key_spread"], ["train/teacher_distance"]],
    "Downstream": [["val/top1"], ["val/miou"], ["val/box_ap", "val/mask_ap"], ["val/loss"]],
    "Optimization": [["optim/lr"], ["optim/grad_norm"], ["optim/teacher_momentum"], ["optim/skipped_steps"]],
    "Speed": [["speed/images_per_second"], ["speed/data_wait"]],
}
"""Metrics of each chart by section; the x-axis is the optimizer step."""

PICTURES = ["pictures/similarity", "val/predictions", "val/confusion", "test/predictions", "test/detections"]


def workspace(entity: str, project: str) -> Any:
    """Return the dashboard, not yet saved.

    Args:
        entity: user or team.
        project: name of the project.
    """
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as workspaces

    sections = [
        workspaces.Section(
            name=name,
            panels=[panels.LinePlot(title=" | ".join(metrics[:1]), x=STEP, y=list(metrics)) for metrics in charts],
            is_open=name in ("Pretext task", "Features"),
        )
        for name, charts in CHARTS.items()
    ]
    pictures: list[Any] = [panels.MediaBrowser(title=name, media_keys=[name]) for name in PICTURES]
    sections.insert(2, workspaces.Section(name="Pictures", panels=pictures, is_open=True))
    return workspaces.Workspace(entity=entity, project=project, name="conmim-lightning", sections=sections)


def main() -> None:
    """Save the dashboard and print its address."""
    parser = argparse.ArgumentParser(prog="python -m conmim_lightning.loggers.dashboard", description=__doc__)
    parser.add_argument("entity", help="user or team")
    parser.add_argument("project", nargs="?", default="conmim-lightning")
    arguments = parser.parse_args()
    try:
        print(workspace(arguments.entity, arguments.project).save().url)
    except ModuleNotFoundError as error:
        raise SystemExit(f"error: {error}; pip install 'conmim-lightning[dashboard]'") from error


if __name__ == "__main__":
    main()
