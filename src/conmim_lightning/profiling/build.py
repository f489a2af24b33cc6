"""Parts of a run that ``benchmark`` and ``plan`` build from a configuration and time."""

from collections.abc import Mapping, Sequence
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_class, instantiate

from conmim_lightning.batches import PretrainBatch
from conmim_lightning.callbacks.throughput import BatchTimer
from conmim_lightning.config.check import Config, check
from conmim_lightning.config.resolvers import register_resolvers
from conmim_lightning.profiling.data.throughput import loader_seconds
from conmim_lightning.profiling.device import training_device
from conmim_lightning.profiling.step.runner import Runner
from conmim_lightning.rng import generator
from conmim_lightning.runtime.allocator import keep_freed_memory
from conmim_lightning.runtime.errors import quiet_libraries
from conmim_lightning.runtime.results import Result
from conmim_lightning.tasks.pretrain import PretrainTask


def check_pretraining(config: Config, command: str) -> None:
    """Raise ValueError unless the configuration is of pre-training, the only task that the command can time."""
    target = get_class(config["task"]["_target_"])
    if not issubclass(target, PretrainTask):
        raise ValueError(f"{command} is for pre-training, got task {target.__name__}")


def build_task(config: Config) -> PretrainTask:
    """Build the task of a checked configuration."""
    return instantiate(config["task"])


def build_runner(config: Config, variant: str, precision: str, batch_size: int) -> Runner:
    """Build a ``Runner``; called in the process that runs it.

    Args:
        config: checked configuration.
        variant: one of ``profiling.step.variants.VARIANTS``.
        precision: a key of ``profiling.step.train_step.DTYPES``.
        batch_size: images per step.
    """
    quiet_libraries()
    register_resolvers()
    device = training_device(config["trainer"]["accelerator"])
    if variant != "reference" and device.type == "cpu":
        keep_freed_memory()
    torch.manual_seed(config["seed"])
    optimizer = config["task"]["optimizer"]
    if variant == "reference":  # the same groups and learning rates, in a loop over parameters
        optimizer = optimizer | {"fused": False, "foreach": False}
    elif precision == "16-mixed":  # as in training
        optimizer = optimizer | {"fused": False}
    task = config["task"] | {"optimizer": optimizer}
    batch = synthetic_batch(config, batch_size)
    return Runner(lambda: instantiate(task), batch, device, variant=variant, precision=precision)


def synthetic_batch(config: Config, batch_size: int) -> PretrainBatch:
    """Return a batch of random pixels, with perturbation rows and masks sampled as configured."""
    masking, perturbation = instantiate(config["masking"]), instantiate(config["perturbation"])
    size, channels = config["backbone"]["img_size"], config["backbone"]["in_chans"]
    random = generator(config["seed"], 0, 0)
    crop = torch.randint(0, 256, (batch_size, channels, size, size), dtype=torch.uint8, generator=random)
    rows = torch.stack([perturbation(random) for _ in range(batch_size)])
    mask = torch.stack([masking(random) for _ in range(batch_size)])
    return PretrainBatch(crop, rows, mask, torch.arange(batch_size), [""] * batch_size).with_max_hidden()


def has_image_root(config: Config) -> bool:
    """Return whether the configuration names an image folder."""
    return config["data"]["root"] is not None


def build_data(config: Config, batch_size: int, photos: Mapping[str, object]) -> Any:
    """Build the configured data module, on synthetic ``photos`` (root and prepare) if no image folder is configured."""
    return instantiate(config["data"], batch_size=batch_size, **({} if has_image_root(config) else photos))


def measure_loader(data: Any, *, warmup: int, groups: int) -> Result:
    """Measure the images per second of the data loader without training."""
    data.prepare_data()
    data.setup("fit")
    group = max(1, data.num_workers)
    durations = loader_seconds(data.train_dataloader(), warmup=warmup + 2 * group, groups=groups, group=group)
    rates = [group * data.batch_size / duration for duration in durations]
    return {"rates": rates, "num_workers": data.num_workers, "precision": ""}


def measure_training(config: Config, data: Any, *, variant: str, precision: str, warmup: int, groups: int) -> Result:
    """Measure the images per second of training with the Trainer, and the fraction of time spent waiting for data."""
    if training_device(config["trainer"]["accelerator"]).type == "cpu":
        keep_freed_memory()  # as in training
    group = max(1, data.num_workers)
    timer = BatchTimer(warmup=warmup + 2 * group, group=group)
    changes = {"precision": precision, "max_steps": timer.warmup + group * groups, "max_epochs": -1}
    changes |= {"devices": 1, "num_nodes": 1, "accumulate_grad_batches": 1, "limit_val_batches": 0}
    changes |= {"enable_checkpointing": False, "enable_progress_bar": False}
    trainer = instantiate(config["trainer"] | changes, callbacks=[timer], logger=False)
    compiled = config["task"]["compile"] or variant == "compiled"
    task = instantiate(config["task"] | {"batch_size": data.batch_size, "compile": compiled})
    task.schedule.accumulate_grad_batches = 1
    trainer.fit(task, datamodule=data)
    return {
        "rates": [group * data.batch_size / duration for duration in timer.seconds],
        "waits": [wait / duration for wait, duration in zip(timer.waits, timer.seconds, strict=True)],
        "num_workers": data.num_workers,
        "precision": precision,
        "variant": variant,
    }


def compose_changed(changes: Sequence[str]) -> Config:
    """Compose the configuration of this command line again, with further overrides."""
    overrides = [word for word in HydraConfig.get().overrides.task if not word.startswith("benchmark.baseline")]
    return check(hydra.compose("benchmark", [*overrides, *changes]), "benchmark")
