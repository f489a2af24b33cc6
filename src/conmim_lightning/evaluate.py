"""Judge a classifier: ``python -m conmim_lightning.evaluate checkpoint=runs/... data.root=/my/images``.

Figures as a table and as JSON, each class's share of right answers, a confusion matrix, and by option a table of
answers. Or let it name images that have no labels:
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
    task, checkpoint = restored_task(plain["checkpoint"])
    if not checkpoint.get("classes"):
        raise ValueError(
            f"checkpoint {plain['checkpoint']!r} knows no classes, as it is of pre-training; use it as "
            "backbone.weights of a fine-tuning, or with train experiment=vit_b_knn"
        )
    data = instantiate(_data(plain, checkpoint["run"]["config"]))
    data.classes = checkpoint["classes"]
    task.check_shapes(*data.sample_shapes)
    trainer = instantiate(plain["trainer"], callbacks=_callbacks(plain))
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


def _callbacks(plain: dict[str, Any]) -> list[Any]:
    from conmim_lightning.callbacks.broken_images import BrokenImages
    from conmim_lightning.callbacks.class_report import ClassReport
    from conmim_lightning.callbacks.predictions import Predictions

    folder = plain["paths"]["run_dir"]
    path = plain["predictions"] or (os.path.join(folder, "predictions.tsv") if plain["images"] else None)
    wanted: list[Any] = [Predictions(path, all_scores=plain["all_scores"])] if path else []
    if plain["images"]:
        return wanted
    return [*wanted, ClassReport(folder), BrokenImages(os.path.join(folder, "broken_images.tsv"))]


@hydra.main(version_base="1.3", config_path=CONF_DIR, config_name="evaluate")
def main(cfg: DictConfig) -> None:
    """Evaluate in a folder of its own, and say what was found and where it lies."""
    with own_job():
        figures = run(cfg)
    folder = Path(cfg.paths.run_dir)
    print(f"\n{told_figures(figures)}", end="")
    places = [folder / METRICS, folder / "per_class.tsv", folder / "confusion.png", folder / "test_broken_images.tsv"]
    places.append(Path(cfg.predictions) if cfg.predictions else folder / "predictions.tsv")
    for path in places:
        if path.exists():
            print(os.path.relpath(path))


if __name__ == "__main__":
    as_launched_rank()
    register_resolvers()
    with told_plainly():
        main()
