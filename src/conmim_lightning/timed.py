"""What ``benchmark`` and ``plan`` build from a configuration to time it."""

from functools import partial
from typing import Any

from conmim_lightning.messages import quiet_libraries
from conmim_lightning.resolvers import register_resolvers


def for_pretraining(plain: dict[str, Any], command: str) -> None:
    """Raise ValueError for a configuration of another task, whose step the command does not know."""
    if "momentum_start" not in plain["task"]:
        raise ValueError(f"{command} is for pre-training, got task {plain['task']['_target_'].rsplit('.', 1)[-1]}")


def made_task(plain: dict[str, Any]) -> Any:
    """The task of a checked configuration."""
    from hydra.utils import instantiate

    return instantiate(plain["task"])


def made_runner(plain: dict[str, Any], way: str, precision: str, batch_size: int) -> Any:
    """A ``speed.runner.Runner``, for a process of its own.

    Args:
        plain: checked configuration.
        way: of ``speed.runner.WAYS``.
        precision: a key of ``speed.ours.DTYPES``.
        batch_size: images.
    """
    import torch
    from hydra.utils import instantiate

    from conmim_lightning.allocator import keep_freed_memory
    from conmim_lightning.speed.device import training_device
    from conmim_lightning.speed.runner import Runner

    quiet_libraries()
    register_resolvers()
    device = training_device(plain["trainer"]["accelerator"])
    if way != "plain" and device.type == "cpu":
        keep_freed_memory()
    torch.manual_seed(plain["seed"])
    wanted = plain["task"]
    if way == "plain":  # the same groups and rates, but from parameter to parameter
        wanted = wanted | {"optimizer": wanted["optimizer"] | {"fused": False, "foreach": False}}
    elif precision == "16-mixed":  # as training asks for it
        wanted = wanted | {"optimizer": wanted["optimizer"] | {"fused": False}}
    return Runner(
        partial(instantiate, wanted),
        made_batch(plain, batch_size),
        device,
        way=way,
        precision=precision,
        clip_norm=plain["schedule"]["clip_norm"],
    )


def made_batch(plain: dict[str, Any], batch_size: int) -> Any:
    """Random pixels, and rows and masks as the configuration draws them; a ``PretrainBatch``."""
    import torch
    from hydra.utils import instantiate

    from conmim_lightning.batches import PretrainBatch
    from conmim_lightning.randomness import generator

    masking, draw = instantiate(plain["masking"]), instantiate(plain["perturbation"])
    size, channels = plain["backbone"]["img_size"], plain["backbone"]["in_chans"]
    random = generator(plain["seed"], 0, 0)
    crop = torch.randint(0, 256, (batch_size, channels, size, size), dtype=torch.uint8, generator=random)
    rows = torch.stack([draw(random) for _ in range(batch_size)])
    mask = torch.stack([masking(random) for _ in range(batch_size)])
    return PretrainBatch(crop, rows, mask, torch.arange(batch_size), [""] * batch_size).counted()


NO_FOLDER = "no-folder-was-named"
"""What ``conf/plan.yaml`` and ``conf/benchmark.yaml`` give as ``data.root`` to configurations that name none."""


def names_images(plain: dict[str, Any]) -> bool:
    """Whether the configuration names images, or has them made."""
    return plain["data"]["root"] != NO_FOLDER


def _with_images(plain: dict[str, Any]) -> dict[str, Any]:
    """The data's configuration, of made photographs where it names no folder."""
    data = plain["data"] | {"batch_size": plain["benchmark"]["batch_size"]}
    return data if names_images(plain) else data | plain["benchmark"]["photos"]


def data_alone(plain: dict[str, Any]) -> dict[str, Any]:
    """Rates of the loader, when nobody trains."""
    from hydra.utils import instantiate

    from conmim_lightning.speed.feed import loader_seconds

    wanted = plain["benchmark"]
    data = instantiate(_with_images(plain))
    data.prepare_data()
    data.setup("fit")
    group = max(1, data.num_workers)
    found = loader_seconds(
        data.train_dataloader(), warmup=wanted["warmup"] + 2 * group, groups=wanted["steps"], group=group
    )
    rates = [group * wanted["batch_size"] / seconds for seconds in found]
    return {"rates": rates, "num_workers": data.num_workers, "precision": ""}


def attention_alone(plain: dict[str, Any], device: Any) -> dict[str, Any]:
    """Seconds of the ways to attend, in the model's shape, for each precision."""
    from conmim_lightning.speed.attentions import attentions, shape_of
    from conmim_lightning.speed.ours import DTYPES

    shape, wanted = shape_of(made_task(plain).model.student.encoder), plain["benchmark"]
    return {
        precision: attentions(device, DTYPES[precision], batch_size=wanted["batch_size"], **shape)
        for precision in wanted["precisions"]
    }


def end_to_end(plain: dict[str, Any]) -> dict[str, Any]:
    """Rates of the whole under the Trainer, in the last precision, and the share of the time that waits for data."""
    from hydra.utils import instantiate

    from conmim_lightning.allocator import keep_freed_memory
    from conmim_lightning.callbacks.batch_times import BatchTimes
    from conmim_lightning.speed.device import training_device

    wanted, precision = plain["benchmark"], plain["benchmark"]["precisions"][-1]
    way = last_of_ours(wanted)
    compiled = plain["task"]["compile"] or way == "compiled"
    data = instantiate(_with_images(plain))
    if training_device(plain["trainer"]["accelerator"]).type == "cpu":
        keep_freed_memory()  # as in training
    group = max(1, data.num_workers)
    times = BatchTimes(warmup=wanted["warmup"] + 2 * group, group=group)
    changes = {"precision": precision, "max_steps": times.warmup + group * wanted["steps"], "max_epochs": -1}
    changes |= {"devices": 1, "num_nodes": 1, "accumulate_grad_batches": 1, "limit_val_batches": 0}
    changes |= {"enable_checkpointing": False, "enable_progress_bar": False}
    trainer = instantiate(plain["trainer"] | changes, callbacks=[times], logger=False)
    task = instantiate(plain["task"] | {"batch_size": wanted["batch_size"], "compile": compiled})
    trainer.fit(task, datamodule=data)
    return {
        "rates": [group * wanted["batch_size"] / seconds for seconds in times.seconds],
        "waits": [wait / seconds for wait, seconds in zip(times.waits, times.seconds, strict=True)],
        "num_workers": data.num_workers,
        "precision": precision,
        "way": way,
    }


def last_of_ours(wanted: dict[str, Any]) -> str:
    """The last of the ways that is not the official one and names no precision of its own, else "ours"."""
    return [way for way in ("ours", *wanted["ways"]) if way in ("ours", "compiled")][-1]
