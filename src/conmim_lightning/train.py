"""Pre-train, fine-tune, probe: ``python -m conmim_lightning.train experiment=vit_b_pretrain data.root=/my/images``.

Composes the configuration, checks it, builds what it names and runs it.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from conmim_lightning.allocator import keep_freed_memory
from conmim_lightning.config import CONF_DIR, check
from conmim_lightning.messages import quiet_libraries, told_plainly
from conmim_lightning.resolvers import register_resolvers

if TYPE_CHECKING:
    from lightning import Trainer

_RANK_VARIABLES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
METRICS = "metrics.json"
"""Name of the file with a run's last figures, in its folder."""

_RUN_DIR, _OVERRIDES = "CONMIM_RUN_DIR", "CONMIM_OVERRIDES"


def run(cfg: DictConfig) -> "Trainer":
    """Check a composed configuration, build everything it names, run its stages, and return the trainer.

    Raises:
        ValueError: a fault of the configuration or the data, before training starts.
    """
    plain = check(cfg)
    from hydra.utils import instantiate
    from lightning import seed_everything
    from lightning.pytorch.utilities import rank_zero_info

    from conmim_lightning.callbacks.run_record import RunRecord
    from conmim_lightning.record import run_record

    quiet_libraries()
    os.makedirs(plain["paths"]["run_dir"], exist_ok=True)
    seed_everything(plain["seed"], workers=True, verbose=False)
    data, task = _data_and_task(plain)
    callbacks = [instantiate(callback) for callback in plain["callbacks"].values()]
    callbacks.append(RunRecord(run_record(plain), plain["paths"]["run_dir"]))
    loggers = [instantiate(logger) for logger in plain["logger"].values()]
    trainer = instantiate(plain["trainer"], callbacks=callbacks, logger=loggers or False)
    if trainer.strategy.root_device.type == "cpu":
        keep_freed_memory()
    if "LOCAL_RANK" not in os.environ:
        data.prepare_data()
        data.setup(plain["stages"][0])
        rank_zero_info(data.summary())
    try:
        _run_stages(trainer, task, data, plain)
    finally:
        for logger in loggers:  # the next run of a sweep must not go on in this one's record
            getattr(logger.experiment, "finish", lambda: None)()
    return trainer


def _run_stages(trainer: "Trainer", task: Any, data: Any, plain: dict[str, Any]) -> None:
    """Each stage with what the one before left; the figures of all go to ``metrics.json``."""
    figures: dict[str, float] = {}
    for stage in plain["stages"]:
        started = time.perf_counter()
        if stage == "fit":
            resume = plain["resume"]
            trainer.fit(task, datamodule=data, ckpt_path=resume, weights_only=True if resume else None)
        else:
            trainer.test(task, datamodule=data, verbose=False)
        figures |= {name: float(value) for name, value in trainer.callback_metrics.items()}
        figures[f"{stage}_seconds"] = time.perf_counter() - started
        if stage == "fit" and trainer.global_step < trainer.estimated_stepping_batches:
            break  # stopped before its end: there is nothing to test yet
    if trainer.is_global_zero:
        Path(plain["paths"]["run_dir"], METRICS).write_text(json.dumps(figures, indent=1))


def _data_and_task(plain: dict[str, Any]) -> tuple[Any, Any]:
    """Both, having refused whatever does not fit, before anything slow."""
    from hydra.utils import instantiate

    from conmim_lightning.weights.checkpoint import read_checkpoint

    if plain["resume"] and "fit" not in plain["stages"]:
        raise ValueError("resume= goes on with a training, and stages has none; to test a run: evaluate checkpoint=...")
    if unknown := set(plain["stages"]) - {"fit", "test"} or not plain["stages"]:
        raise ValueError(f"stages must be of fit and test, got {plain['stages']}: {unknown}")
    checkpoint = read_checkpoint(plain["resume"]) if plain["resume"] else None
    if checkpoint:
        plain["task"] = without_weights(plain["task"])  # they are in the checkpoint
    data, task = instantiate(plain["data"]), instantiate(plain["task"])
    task.check_shapes(*data.sample_shapes)
    task.make_optimizer(plain["data"]["batch_size"])  # refuses bad numbers now rather than in the trainer
    if checkpoint:
        _check_backbone(checkpoint, plain)
        task.on_load_checkpoint(checkpoint)  # refuses another architecture
    return data, task


def restored_task(path: str, inference: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
    """The task of a checkpoint with its weights, as its own record describes it; and the checkpoint.

    Args:
        path: of the checkpoint or its run.
        inference: what a segmenter's inference, or a detector, does otherwise than in the run.

    Raises:
        ValueError: the file is no checkpoint of this project, or has no record of its run.
    """
    from hydra.utils import instantiate

    from conmim_lightning.weights.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(path)
    if "run" not in checkpoint:
        raise ValueError(f"{path!r} does not say what model it holds: it has no record of its run")
    task = instantiate(_otherwise(without_weights(checkpoint["run"]["config"]["task"]), inference or {}))
    task.on_load_checkpoint(checkpoint)
    task.load_state_dict(checkpoint["state_dict"])
    return task, checkpoint


def without_weights(task: dict[str, Any]) -> dict[str, Any]:
    """A task's configuration whose backbone is drawn: where its weights once lay matters no more."""
    model = task["model"]
    if "backbone" in model:
        return task | {"model": model | {"backbone": model["backbone"] | {"weights": None}}}
    return task | {"model": model | {"weights": None}}


def _otherwise(task: dict[str, Any], inference: dict[str, Any]) -> dict[str, Any]:
    """A task's configuration with changes of its inference; ValueError where there is nothing of the kind."""
    place = "inference" if "inference" in task else "model"
    if unknown := [key for key in inference if key not in task[place]]:
        raise ValueError(f"inference.{unknown[0]} is unknown to a run of {task['_target_'].rsplit('.', 1)[-1]}")
    return task | {place: task[place] | inference} if inference else task


def _check_backbone(checkpoint: dict[str, Any], plain: dict[str, Any]) -> None:
    """Refuse weights of a backbone that differs in what shapes do not show, such as the number of heads.

    Raises:
        ValueError: an entry of the backbone's configuration differs, other than rates of dropping out.
    """
    theirs = checkpoint.get("run", {}).get("config", {}).get("backbone")
    if theirs is None:
        return
    mine = plain["backbone"]
    keys = [
        key
        for key in sorted({*theirs, *mine} - {"weights", "branch", "allow"})
        if not key.endswith("_rate") and theirs.get(key) != mine.get(key)
    ]
    if keys:
        told = ", ".join(f"backbone.{key} {theirs.get(key)!r} instead of {mine.get(key)!r}" for key in keys)
        raise ValueError(f"the checkpoint is of another architecture: {told}")


def told_figures(figures: dict[str, float]) -> str:
    """A line for each figure."""
    return "".join(f"{name:<36} {value:.4f}\n" for name, value in figures.items())


def _say_where(trainer: "Trainer", run_dir: str) -> None:
    found: dict[str, Any] = {
        "checkpoint": os.path.join(run_dir, "checkpoints", "last.ckpt"),
        "metrics": os.path.join(run_dir, "metrics", "metrics.csv"),
        "pictures": os.path.join(run_dir, "report.png"),
        "classes": os.path.join(run_dir, "per_class.tsv"),
        "confusion": os.path.join(run_dir, "confusion.png"),
        "drawn": os.path.join(run_dir, "pictures"),
        "figures": os.path.join(run_dir, METRICS),
        "run": os.path.join(run_dir, "run.yaml"),
    }
    print()
    tested = json.loads(Path(run_dir, METRICS).read_text())
    print(told_figures({name: value for name, value in tested.items() if name.startswith("test/")}), end="")
    for name, path in found.items():
        if path and os.path.exists(path):
            print(f"{name:<11} {os.path.relpath(path)}")


@contextmanager
def own_job() -> Iterator[None]:
    """Tell the processes that this one launches its folder and its overrides; leave the environment as it was."""
    before = {name: os.environ.get(name) for name in (*_RANK_VARIABLES, _RUN_DIR, _OVERRIDES)}
    if "LOCAL_RANK" not in os.environ:
        os.environ[_RUN_DIR] = HydraConfig.get().runtime.output_dir
        os.environ[_OVERRIDES] = json.dumps(list(HydraConfig.get().overrides.task))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@hydra.main(version_base="1.3", config_path=CONF_DIR, config_name="train")
def main(cfg: DictConfig) -> None:
    """Run one job in its own folder, which the processes that it launches share."""
    with own_job():
        trainer = run(cfg)
        if trainer.is_global_zero:
            _say_where(trainer, cfg.paths.run_dir)


def as_launched_rank() -> None:
    """A process that another rank launched runs that rank's job alone, whatever sweep the command line asked for."""
    if "LOCAL_RANK" in os.environ and _OVERRIDES in os.environ:
        kept = [word for word in sys.argv[1:] if word.startswith(("--", "hydra.")) or "=" not in word]
        kept = [word for word in kept if word not in ("-m", "--multirun") and not word.startswith("~")]
        sys.argv[1:] = [*json.loads(os.environ[_OVERRIDES]), *kept]


if __name__ == "__main__":
    as_launched_rank()
    register_resolvers()
    with told_plainly():
        main()
