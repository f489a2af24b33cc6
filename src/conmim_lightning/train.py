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
from conmim_lightning.files import check_writable, remove_partial
from conmim_lightning.runtime.allocator import keep_freed_memory
from conmim_lightning.runtime.devices import check_devices, use_own_signals
from conmim_lightning.runtime.errors import quiet_libraries
from conmim_lightning.runtime.folder_lock import folder_lock
from conmim_lightning.runtime.launch import check_objective, own_job, run_command
from conmim_lightning.runtime.ranks import global_rank, local_rank
from conmim_lightning.runtime.results import METRICS, format_metrics, objective, write_json
from conmim_lightning.signals import StoppedError, active_handler
from conmim_lightning.slurm import requeue_stopped

if TYPE_CHECKING:
    from lightning import Trainer

    from conmim_lightning.runtime.resume import Resume

_STAGES = ("fit", "test")
_FILES = {
    "checkpoint": "checkpoints/last.ckpt",
    "curves": "metrics/metrics.csv",
    "report": "report.html",
    "figure": "report.png",
    "per class": "per_class.tsv",
    "confusion": "confusion.png",
    "pictures": "pictures",
    "metrics": METRICS,
    "run": "run.yaml",
}


def run(cfg: DictConfig) -> "Trainer":
    """Check a composed configuration, build its objects, run its stages, and return the trainer.

    Raises:
        ValueError: a fault of the configuration or the data, or another process in the run's folder, before training
            starts.
        OSError: the folder of the run is not writable.
    """
    config = check(cfg)
    quiet_libraries()
    check_devices(config["trainer"])
    if global_rank() > 0:
        return _run(cfg, config)
    check_writable(config["paths"]["run_dir"])
    with folder_lock(config["paths"]["run_dir"]):
        return _run(cfg, config)


def _run(cfg: DictConfig, config: Config) -> "Trainer":
    from lightning import seed_everything

    from conmim_lightning.runtime.resume import check_unused, find_resume

    run_dir = config["paths"]["run_dir"]
    resume = find_resume(config["resume"], run_dir)
    if global_rank() == 0:
        remove_partial(run_dir)
        check_unused(run_dir, resume.path, continues=resume.auto)
    seed_everything(config["seed"], workers=True, verbose=False)
    config, data, task = _build(cfg, config, resume.checkpoint)
    trainer = _trainer(config, resume)
    _open(data, config["stages"][0])
    try:
        _run_stages(trainer, task, data, config, resume)
    except StoppedError as error:
        requeue_stopped(error, getattr(trainer.checkpoint_callback, "requeue", True))
        raise
    finally:
        for logger in trainer.loggers:  # the next run of a sweep must not continue this run's log
            experiment = None if hasattr(logger, "close") else getattr(logger, "experiment", None)
            getattr(logger, "close", getattr(experiment, "finish", lambda: None))()
    return trainer


def _trainer(config: Config, resume: "Resume") -> "Trainer":
    """Build the trainer with its callbacks and loggers."""
    from hydra.utils import instantiate

    from conmim_lightning.callbacks.run_record import RunRecord
    from conmim_lightning.runtime.labels import run_labels
    from conmim_lightning.runtime.loggers import build_loggers, run_id
    from conmim_lightning.runtime.provenance import portable, run_record

    identifier, labels = run_id(resume.checkpoint, config["logger"]), run_labels(config)
    callbacks = [instantiate(callback) for callback in config["callbacks"].values()]
    record = run_record(config, identifier, resume.checkpoint, labels._asdict())
    callbacks.append(RunRecord(record, config["paths"]["run_dir"], portable(record)))
    loggers = build_loggers(config["logger"], identifier, resume.checkpoint, labels)
    trainer = instantiate(config["trainer"], callbacks=callbacks, logger=loggers or False)
    use_own_signals(trainer)
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    return trainer


def _open(data: Any, stage: str) -> None:
    """Create missing files once per node, and print a summary of the data once per run."""
    from lightning.pytorch.utilities import rank_zero_info

    if local_rank() == 0:
        data.prepare_data()
    if global_rank() == 0:
        data.setup(stage)
        rank_zero_info(data.summary())


def _build(cfg: DictConfig, config: Config, checkpoint: Any | None) -> tuple[Config, Any, Any]:
    """Build the final configuration, the data module and the task; raise for every mismatch before anything slow."""
    from hydra.utils import instantiate
    from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

    from conmim_lightning.runtime.restore import check_backbone, unused_settings, without_weights

    stages = config["stages"]
    if not stages or set(stages) - set(_STAGES):
        raise ValueError(f"stages must be of {', '.join(_STAGES)}, got {stages}")
    if config["resume"] and "fit" not in stages:
        raise ValueError("resume= continues training, but stages has no fit; to test a run: evaluate checkpoint=...")
    data = instantiate(config["data"])
    if config["data"].get("num_classes", 0) is None:  # the image source counts them
        cfg.data.num_classes = data.num_classes
        config = check(cfg)
    if checkpoint:
        if weights := config["backbone"].get("weights"):
            rank_zero_info(f"backbone.weights={weights} is not read: the checkpoint of resume= has newer weights")
        if unused := unused_settings(checkpoint, config):
            rank_zero_warn(unused)
        config["task"] = without_weights(config["task"])  # the checkpoint contains them
    task = instantiate(config["task"])
    task.check_shapes(*data.sample_shapes)
    task.make_optimizer(config["data"]["batch_size"])  # raises for invalid numbers before the Trainer starts
    if checkpoint:
        check_backbone(checkpoint, config)
        task.on_load_checkpoint(checkpoint)  # raises for another architecture
    return config, data, task


def _run_stages(trainer: "Trainer", task: Any, data: Any, config: Config, resume: "Resume") -> None:
    """Run the stages in order and write their metrics."""
    path = Path(config["paths"]["run_dir"], METRICS)
    metrics: dict[str, float] = {}
    for stage in config["stages"]:
        started = time.perf_counter()
        _advise(trainer, stage, resume.path)
        if stage == "fit":
            trainer.fit(task, datamodule=data, ckpt_path=resume.path, weights_only=True if resume.path else None)
        else:
            trainer.test(task, datamodule=data, verbose=False)
        metrics |= {name: float(value) for name, value in trainer.callback_metrics.items()}
        metrics[f"{stage}_seconds"] = time.perf_counter() - started
        if stage == "fit" and _ends_early(trainer, task, resume.step):
            break  # there is nothing to test yet
        if stage == "fit" and trainer.global_step == resume.step and path.exists():
            metrics = json.loads(path.read_text()) | metrics  # nothing was trained
    if trainer.is_global_zero:
        write_json(metrics, path)


def _advise(trainer: "Trainer", stage: str, resume: str | None) -> None:
    """Set the advice of a signal that stops a stage at once: training, before its first step or after its last."""
    handler = active_handler()
    if handler is None:
        return

    def advice() -> str:
        last = getattr(trainer.checkpoint_callback, "last_model_path", "")
        if stage == "test":
            return f" during the test; evaluate it with: evaluate checkpoint={last}" if last else " during the test"
        if last or resume:
            return f" before a step; continue with resume={last or resume}"
        return " before its first step; there is nothing to continue"

    handler.advice = advice


def _ends_early(trainer: "Trainer", task: Any, resumed_step: int) -> bool:
    """Return whether training ended before its end, and say so; also say if there was nothing to do."""
    from lightning.pytorch.utilities import rank_zero_info

    done, epochs = trainer.global_step, trainer.current_epoch
    planned = getattr(task, "planned_steps", trainer.estimated_stepping_batches)
    by_steps = 0 < trainer.max_steps <= done
    if not by_steps and not 0 < (trainer.max_epochs or 0) <= epochs:
        last = getattr(trainer.checkpoint_callback, "last_model_path", "")
        hint = f"; continue with resume={last}" if last else ""
        rank_zero_info(f"training stopped early, after {done} of {planned} steps{hint}")
        return True
    if done == resumed_step > 0:
        rank_zero_info(
            f"nothing to train: the checkpoint has {done} steps, {epochs} epochs, and the run is planned for {planned} "
            f"steps, {trainer.max_epochs} epochs; a larger schedule.epochs or schedule.steps continues it"
        )
    return False


def _write_report(folder: Path) -> None:
    """Write report.html; the results are stored already, so a failure is only reported."""
    from lightning.pytorch.utilities import rank_zero_warn

    from conmim_lightning.reporting.run_report import REPORT, write_run_report

    try:
        write_run_report(folder)
    except (OSError, ValueError) as error:
        rank_zero_warn(f"{REPORT} could not be written: {error}; try again with: conmim report {folder}")


def _print_results(folder: Path) -> None:
    """Print the test metrics and the paths of the files."""
    metrics = json.loads((folder / METRICS).read_text())
    tested = {name: value for name, value in metrics.items() if name.startswith("test/")}
    print(f"\n{format_metrics(tested)}", end="")
    for name, file in _FILES.items():
        if (folder / file).exists():
            print(f"{name:<11} {os.path.relpath(folder / file)}")


@hydra.main(version_base="1.3", config_path=CONF_DIR, config_name="train")
def main(cfg: DictConfig) -> float | None:
    """Run one job in its own folder; processes that it launches use the same folder. Return a sweep's objective."""
    check_objective(cfg.objective)
    with own_job():
        trainer = run(cfg)
        folder = Path(cfg.paths.run_dir)
        if trainer.is_global_zero:
            if cfg.report:
                _write_report(folder)
            _print_results(folder)
        return objective(cfg.objective, folder) if cfg.objective and trainer.is_global_zero else None


if __name__ == "__main__":
    run_command(main)
