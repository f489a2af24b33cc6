"""Pre-train, fine-tune or probe: ``python -m conmim_lightning.train experiment=vit_b_pretrain data.root=/my/images``.

Compose the configuration, check it, build its objects and run its stages.
"""

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from conmim_lightning.config.check import CONF_DIR, Config, check
from conmim_lightning.config.resolvers import register_resolvers
from conmim_lightning.runtime.allocator import keep_freed_memory
from conmim_lightning.runtime.errors import quiet_libraries, user_errors
from conmim_lightning.runtime.launch import as_launched_rank, own_job
from conmim_lightning.runtime.results import METRICS, format_metrics, write_json

if TYPE_CHECKING:
    from lightning import Trainer

_STAGES = ("fit", "test")
_FILES = {
    "checkpoint": "checkpoints/last.ckpt",
    "curves": "metrics/metrics.csv",
    "report": "report.png",
    "per class": "per_class.tsv",
    "confusion": "confusion.png",
    "pictures": "pictures",
    "metrics": METRICS,
    "run": "run.yaml",
}


def run(cfg: DictConfig) -> "Trainer":
    """Check a composed configuration, build its objects, run its stages, and return the trainer.

    Raises:
        ValueError: a fault of the configuration or the data, before training starts.
    """
    config = check(cfg)
    from hydra.utils import instantiate
    from lightning import seed_everything
    from lightning.pytorch.utilities import rank_zero_info

    from conmim_lightning.callbacks.run_record import RunRecord
    from conmim_lightning.runtime.provenance import run_record

    quiet_libraries()
    os.makedirs(config["paths"]["run_dir"], exist_ok=True)
    seed_everything(config["seed"], workers=True, verbose=False)
    config, data, task = _build(cfg, config)
    callbacks = [instantiate(callback) for callback in config["callbacks"].values()]
    callbacks.append(RunRecord(run_record(config), config["paths"]["run_dir"]))
    loggers = [instantiate(logger) for logger in config["logger"].values()]
    trainer = instantiate(config["trainer"], callbacks=callbacks, logger=loggers or False)
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    if "LOCAL_RANK" not in os.environ:
        data.prepare_data()
        data.setup(config["stages"][0])
        rank_zero_info(data.summary())
    try:
        _run_stages(trainer, task, data, config)
    finally:
        for logger in loggers:  # the next run of a sweep must not continue this run's log
            getattr(logger.experiment, "finish", lambda: None)()
    return trainer


def _build(cfg: DictConfig, config: Config) -> tuple[Config, Any, Any]:
    """Build the final configuration, the data module and the task; raise for every mismatch before anything slow."""
    from hydra.utils import instantiate

    from conmim_lightning.runtime.restore import check_backbone, without_weights
    from conmim_lightning.weights.checkpoint import read_checkpoint

    stages, resume = config["stages"], config["resume"]
    if not stages or set(stages) - set(_STAGES):
        raise ValueError(f"stages must be of {', '.join(_STAGES)}, got {stages}")
    if resume and "fit" not in stages:
        raise ValueError("resume= continues training, but stages has no fit; to test a run: evaluate checkpoint=...")
    checkpoint = read_checkpoint(resume) if resume else None
    data = instantiate(config["data"])
    if config["data"].get("num_classes", 0) is None:  # the image source counts them
        cfg.data.num_classes = data.num_classes
        config = check(cfg)
    if checkpoint:
        config["task"] = without_weights(config["task"])  # the checkpoint contains them
    task = instantiate(config["task"])
    task.check_shapes(*data.sample_shapes)
    task.make_optimizer(config["data"]["batch_size"])  # raises for invalid numbers before the Trainer starts
    if checkpoint:
        check_backbone(checkpoint, config)
        task.on_load_checkpoint(checkpoint)  # raises for another architecture
    return config, data, task


def _run_stages(trainer: "Trainer", task: Any, data: Any, config: Config) -> None:
    """Run the stages in order and write their metrics."""
    metrics: dict[str, float] = {}
    for stage in config["stages"]:
        started = time.perf_counter()
        if stage == "fit":
            resume = config["resume"]
            trainer.fit(task, datamodule=data, ckpt_path=resume, weights_only=True if resume else None)
        else:
            trainer.test(task, datamodule=data, verbose=False)
        metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
        metrics[f"{stage}_seconds"] = time.perf_counter() - started
        if stage == "fit" and trainer.global_step < trainer.estimated_stepping_batches:
            break  # training was stopped early: there is nothing to test yet
    if trainer.is_global_zero:
        write_json(metrics, Path(config["paths"]["run_dir"], METRICS))


def _print_results(folder: Path) -> None:
    """Print the test metrics and the paths of the files."""
    metrics = json.loads((folder / METRICS).read_text())
    tested = {name: value for name, value in metrics.items() if name.startswith("test/")}
    print(f"\n{format_metrics(tested)}", end="")
    for name, file in _FILES.items():
        if (folder / file).exists():
            print(f"{name:<11} {os.path.relpath(folder / file)}")


@hydra.main(version_base="1.3", config_path=CONF_DIR, config_name="train")
def main(cfg: DictConfig) -> None:
    """Run one job in its own folder; processes that it launches share the folder."""
    with own_job():
        trainer = run(cfg)
        if trainer.is_global_zero:
            _print_results(Path(cfg.paths.run_dir))


if __name__ == "__main__":
    as_launched_rank()
    register_resolvers()
    with user_errors():
        main()
