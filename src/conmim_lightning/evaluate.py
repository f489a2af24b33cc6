"""Evaluate a trained model: ``python -m conmim_lightning.evaluate checkpoint=runs/... data.root=/my/images``.

Write the metrics, the metrics per class, a confusion matrix or drawings, and on request all predictions. For images
without labels: ``python -m conmim_lightning.evaluate checkpoint=runs/... images=/new/images``.
"""

import os
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from conmim_lightning.config.check import CONF_DIR, Config, check
from conmim_lightning.files import check_writable
from conmim_lightning.runtime.devices import check_devices, use_own_signals
from conmim_lightning.runtime.errors import quiet_libraries
from conmim_lightning.runtime.launch import own_job, run_command
from conmim_lightning.runtime.ranks import global_rank
from conmim_lightning.runtime.results import METRICS, format_metrics, print_existing, write_json
from conmim_lightning.runtime.secrets import masked_keys
from conmim_lightning.runtime.trust import recorded_reports

_FILES = (METRICS, "per_class.tsv", "confusion.png", "pictures", "test_broken_images.tsv")


def run(cfg: DictConfig) -> dict[str, float]:
    """Check a composed configuration, evaluate its checkpoint, and return the metrics; empty for unlabelled images.

    Raises:
        ValueError: a fault of the configuration, the checkpoint or the data.
    """
    config = check(cfg, "evaluate")
    from hydra.utils import instantiate

    from conmim_lightning.runtime.restore import restored_task

    quiet_libraries()
    check_devices(config["trainer"])
    check_writable(config["paths"]["run_dir"])
    task, checkpoint = restored_task(config["checkpoint"], config["inference"], config["trust"])
    if type(task).test_step is _lightning_module().test_step:
        raise ValueError(
            f"checkpoint {config['checkpoint']!r} is of {type(task).__name__}, which has no test; use it as "
            "backbone.weights of a fine-tuning, or with train experiment=vit_b_knn"
        )
    recorded = checkpoint["run"]["config"]
    data = instantiate(data_config(config, recorded))
    data.classes = checkpoint.get("classes") or None
    if checkpoint.get("category_ids"):
        data.category_ids = checkpoint["category_ids"]
    task.check_shapes(*data.sample_shapes)
    trainer = instantiate(config["trainer"], callbacks=_callbacks(config, recorded))
    use_own_signals(trainer)
    if config["images"]:
        trainer.predict(task, datamodule=data, return_predictions=False)
        return {}
    trainer.test(task, datamodule=data, verbose=False)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    if trainer.is_global_zero:
        write_json(metrics, Path(config["paths"]["run_dir"], METRICS))
    return metrics


def _lightning_module() -> Any:
    from lightning import LightningModule

    return LightningModule


def data_config(config: Config, recorded: Config) -> Config:
    """Return the data configuration of the evaluated run, with the requested changes."""
    changes = {key: value for key, value in (config["data"] or {}).items() if value is not None}
    if "root" in changes or config["images"]:
        changes["prepare"] = None
    if config["images"]:
        changes["predict_root"] = config["images"]
    merged = OmegaConf.merge(_renamed(recorded["data"]), changes)
    if masked := masked_keys(OmegaConf.to_container(merged)):
        raise ValueError(
            f"the record of the run has no credentials; give these values again: data.{', data.'.join(masked)}"
        )
    return check(OmegaConf.create({"data": merged}), None)["data"]


def _renamed(data: Config) -> Config:
    """Return the recorded data configuration with today's names; lists of excluded images held for training alone."""
    source = data.get("source")
    if isinstance(source, dict) and "on_invalid_box" in source:
        renamed = {key: value for key, value in source.items() if key != "on_invalid_box"}
        data = data | {"source": renamed | {"on_invalid": source["on_invalid_box"]}}
        if isinstance(data.get("exclude"), str):
            data = data | {"exclude": {"train": data["exclude"]}}
    return data


def _callbacks(config: Config, recorded: Config) -> list[Any]:
    """Return the run's report callbacks, which write to this command's folder, and a classifier's predictions table."""
    from hydra.utils import instantiate

    from conmim_lightning.callbacks.broken_images import BrokenImages
    from conmim_lightning.callbacks.heartbeat import Heartbeat
    from conmim_lightning.callbacks.reports.predictions import Predictions

    folder = config["paths"]["run_dir"]
    reports = [node for node in recorded_reports(recorded).values() if "dirpath" in node]
    dense = any("predictions" in node for node in reports)
    changes = {"dirpath": folder}
    dense_changes = {"predictions": config["predictions"]}
    dense_changes |= {} if config["pictures"] is None else {"pictures": config["pictures"]}
    callbacks: list[Any] = [Heartbeat()]
    callbacks += [
        instantiate(node | changes | (dense_changes if "predictions" in node else {}))
        for node in reports
        if "predictions" in node or not config["images"]
    ]
    path = config["predictions"] or (os.path.join(folder, "predictions.tsv") if config["images"] else None)
    if path and not dense:
        callbacks.append(Predictions(path, all_scores=config["all_scores"]))
    if not config["images"]:
        callbacks.append(BrokenImages(os.path.join(folder, "broken_images.tsv")))
    return callbacks


@hydra.main(version_base="1.3", config_path=CONF_DIR, config_name="evaluate")
def main(cfg: DictConfig) -> None:
    """Evaluate in a new folder; print the metrics and the paths of the files."""
    with own_job():
        metrics = run(cfg)
    if global_rank() > 0:
        return
    folder = Path(cfg.paths.run_dir)
    print(f"\n{format_metrics(metrics)}", end="")
    predictions = Path(cfg.predictions) if cfg.predictions else folder / "predictions.tsv"
    print_existing([*(folder / name for name in _FILES), predictions])


if __name__ == "__main__":
    run_command(main)
