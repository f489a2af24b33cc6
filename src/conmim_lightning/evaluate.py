"""Judge what a run has trained: ``python -m conmim_lightning.evaluate checkpoint=runs/... data.root=/my/images``.

Figures as a table and as JSON and those of each class; for classification a confusion matrix, for segmentation and
detection pictures; by option the answers themselves. Or let it answer for images without labels:
``python -m conmim_lightning.evaluate checkpoint=runs/... images=/new/images``.
"""

import json
import os
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from conmim_lightning.config import CONF_DIR, check
from conmim_lightning.messages import quiet_libraries, told_plainly
from conmim_lightning.resolvers import register_resolvers
from conmim_lightning.train import METRICS, as_launched_rank, own_job, restored_task, told_figures


def run(cfg: DictConfig) -> dict[str, float]:
    """Check a composed configuration, evaluate what it names, and return the figures; none for images without labels.

    Raises:
        ValueError: a fault of the configuration, the checkpoint or the data.
    """
    plain = check(cfg)
    from hydra.utils import instantiate

    quiet_libraries()
    os.makedirs(plain["paths"]["run_dir"], exist_ok=True)
    task, checkpoint = restored_task(plain["checkpoint"], plain["inference"])
    if not checkpoint.get("classes"):
        raise ValueError(
            f"checkpoint {plain['checkpoint']!r} knows no classes, as it is of pre-training; use it as "
            "backbone.weights of a fine-tuning, or with train experiment=vit_b_knn"
        )
    data = instantiate(_data(plain, checkpoint["run"]["config"]))
    data.classes = checkpoint["classes"]
    if checkpoint.get("category_ids"):
        data.category_ids = checkpoint["category_ids"]
    task.check_shapes(*data.sample_shapes)
    trainer = instantiate(plain["trainer"], callbacks=_callbacks(plain, checkpoint["run"]["config"]))
    if plain["images"]:
        trainer.predict(task, datamodule=data, return_predictions=False)
        return {}
    trainer.test(task, datamodule=data, verbose=False)
    figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
    if trainer.is_global_zero:
        Path(plain["paths"]["run_dir"], METRICS).write_text(json.dumps(figures, indent=1))
    return figures


def _data(plain: dict[str, Any], recorded: dict[str, Any]) -> dict[str, Any]:
    """Configuration of the data: the run's, with what was asked for instead."""
    changes = {key: value for key, value in (plain["data"] or {}).items() if value is not None}
    if "root" in changes or plain["images"]:
        changes["prepare"] = None
    if plain["images"]:
        changes["predict_root"] = plain["images"]
    merged = OmegaConf.merge(recorded["data"], changes)
    return check(OmegaConf.create({"data": merged}))["data"]


def _callbacks(plain: dict[str, Any], recorded: dict[str, Any]) -> list[Any]:
    """The run's own reports, for a folder of their own; and, of a run that classifies, a table of answers."""
    from hydra.utils import instantiate

    from conmim_lightning.callbacks.broken_images import BrokenImages
    from conmim_lightning.callbacks.class_report import ClassReport
    from conmim_lightning.callbacks.predictions import Predictions

    folder = plain["paths"]["run_dir"]
    reports = [node for name, node in recorded["callbacks"].items() if name.endswith("_report")]
    dense = [node for node in reports if "predictions" in node]
    asked = {"dirpath": folder, "predictions": plain["predictions"]}
    asked |= {} if plain["pictures"] is None else {"pictures": plain["pictures"]}
    wanted: list[Any] = [instantiate(node | asked) for node in dense]
    path = plain["predictions"] or (os.path.join(folder, "predictions.tsv") if plain["images"] else None)
    if path and not dense:
        wanted.append(Predictions(path, all_scores=plain["all_scores"]))
    if plain["images"]:
        return wanted
    if not dense:
        wanted.append(ClassReport(folder))
    return [*wanted, BrokenImages(os.path.join(folder, "broken_images.tsv"))]


@hydra.main(version_base="1.3", config_path=CONF_DIR, config_name="evaluate")
def main(cfg: DictConfig) -> None:
    """Evaluate in a folder of its own, and say what was found and where it lies."""
    with own_job():
        figures = run(cfg)
    folder = Path(cfg.paths.run_dir)
    print(f"\n{told_figures(figures)}", end="")
    left = (METRICS, "per_class.tsv", "confusion.png", "pictures", "test_broken_images.tsv")
    places = [folder / name for name in left]
    places.append(Path(cfg.predictions) if cfg.predictions else folder / "predictions.tsv")
    for path in places:
        if path.exists():
            print(os.path.relpath(path))


if __name__ == "__main__":
    as_launched_rank()
    register_resolvers()
    with told_plainly():
        main()
