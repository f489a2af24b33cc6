"""What a run will take, before it is begun: ``python -m conmim_lightning.plan experiment=vit_b_pretrain``.

Counts parameters, operations and bytes, takes a few steps on made batches, and tells hours, disk and the largest batch.
With ``data.root=/my/images`` it counts the images there. Nothing is trained; what is kept is ``plan.json``, and the
folder's index, which a run will use.
"""

import json
import os
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from conmim_lightning.config import CONF_DIR, check
from conmim_lightning.messages import quiet_libraries, told_plainly
from conmim_lightning.resolvers import register_resolvers
from conmim_lightning.timed import for_pretraining, made_batch, made_runner, made_task, names_images

IMAGENET = 1_281_167
"""Images of ImageNet-1K's training set."""

_SMALL = {"cpu": 8, "cuda": 32}  # images of the batch that memory is measured with, and half of it


def forecast(plain: dict[str, Any]) -> dict[str, Any]:
    """Count and measure what the configuration would take.

    Returns:
        device, precision, batch_size, images (and counted_images: whether they are the user's, or ImageNet's), epochs,
        accumulate, devices; parameters by part; operations an image, by part from the shapes and as torch counts them;
        memory in bytes by part and "image", what each one more takes; largest_batch; timed (batch_size, seconds of each
        step, ceiling in operations a second); checkpoint (bytes, seconds to write, how many are kept).
    """
    import torch

    from conmim_lightning.speed.device import product_rate, told_device, training_device
    from conmim_lightning.speed.ours import DTYPES

    device = training_device(plain["trainer"]["accelerator"])
    precision = plain["trainer"]["precision"]
    if precision not in DTYPES:
        raise ValueError(f"plan knows trainer.precision of {', '.join(DTYPES)}, got {precision!r}")
    found: dict[str, Any] = {
        "device": told_device(device),
        "precision": precision,
        "batch_size": plain["data"]["batch_size"],
        "images": _count_images(plain),
        "counted_images": counts_images(plain),
        "epochs": plain["schedule"]["epochs"],
        "accumulate": plain["schedule"]["accumulate"],
        "devices": list(plain["plan"]["devices"]),
    }
    found |= _counted(plain)
    found |= _timed(plain, precision, device)
    found["timed"]["ceiling"] = product_rate(device, DTYPES[precision] or torch.float32)
    return found


def _counted(plain: dict[str, Any]) -> dict[str, Any]:
    """Parameters and operations."""
    from conmim_lightning.speed.operations import counted_operations, counted_parameters, operations_by_shape

    task, batch = made_task(plain), made_batch(plain, 2)
    counted = sum(counted_operations(task, batch).values()) / len(batch.crop)
    operations = operations_by_shape(task, batch.most_hidden) | {"counted": counted}
    return {"parameters": counted_parameters(task.model.student), "operations": operations}


def _timed(plain: dict[str, Any], precision: str, device: Any) -> dict[str, Any]:
    """Memory, largest batch, seconds of steps, and the checkpoint."""
    from conmim_lightning.speed.device import memory_limit
    from conmim_lightning.speed.sizes import largest_batch

    limit, batch_size = memory_limit(device, plain["plan"]["memory"]), plain["data"]["batch_size"]
    size = max(4, min(_SMALL[device.type], batch_size))
    half, whole = _measured(plain, precision, size // 2), _measured(plain, precision, size)
    kept = _kept_views(plain, device)
    half["peak"] += kept * (size // 2)
    whole["peak"] += kept * size
    largest = largest_batch((size // 2, half["peak"]), (size, whole["peak"]), limit)
    image = (whole["peak"] - half["peak"]) / (size - size // 2)
    memory = whole["held"] | {"image": image, "batch_size": size, "peak": whole["peak"], "limit": limit}
    fitting = min(batch_size, largest)
    if device.type == "cuda" and fitting > size:  # a CPU is as fast with few images as with many
        size, whole = _largest_measured(plain, precision, fitting, size, whole)
        if size < fitting and plain["plan"]["memory"] is None:
            largest = size  # memory did not suffice for what the line had told; another device's may
    return {
        "memory": memory,
        "largest_batch": largest,
        "timed": {"batch_size": size, "seconds": whole["seconds"]},
        "checkpoint": whole["saved"] | {"kept": kept_checkpoints(plain)},
    }


def _largest_measured(
    plain: dict[str, Any], precision: str, wanted: int, size: int, found: dict[str, Any]
) -> tuple[int, dict[str, Any]]:
    """Images and steps of the wanted batch, or of one that is an eighth smaller while memory does not suffice."""
    from conmim_lightning.speed.remote import OutOfMemoryError

    while wanted > size:
        try:
            return wanted, _measured(plain, precision, wanted)
        except OutOfMemoryError:
            wanted = wanted * 7 // 8
    return size, found


def _kept_views(plain: dict[str, Any], device: Any) -> int:
    """Bytes an image of the views that a run keeps besides those at hand, to tell of a step that is not finite."""
    if device.type != "cuda" or not plain["callbacks"].get("divergence"):
        return 0
    backbone, float32, views = plain["backbone"], 4, 2
    batches = 2 * plain["schedule"]["accumulate"] - 1  # of this step and the one before, which is told of late
    return batches * views * float32 * backbone["in_chans"] * backbone["img_size"] ** 2


def _measured(plain: dict[str, Any], precision: str, size: int) -> dict[str, Any]:
    """Steps of a batch in a process of its own."""
    from conmim_lightning.speed.remote import Remote

    runner = Remote(f"batch {size}", made_runner, plain, "ours", precision, size)
    runner.ask("steps", plain["plan"]["warmup"])
    steps = runner.ask("steps", plain["plan"]["steps"])
    found = {
        "seconds": [sum(parts) for parts in zip(steps["perturbation"], steps["step"], strict=True)],
        "peak": runner.ask("peak"),
        "held": runner.ask("held"),
        "saved": runner.ask("saved", plain["paths"]["run_dir"]),
    }
    runner.end()
    return found


def counts_images(plain: dict[str, Any]) -> bool:
    """Whether the number of images is that of a collection which the configuration names, or given by the user."""
    return plain["plan"]["images"] is not None or names_images(plain)


def _count_images(plain: dict[str, Any]) -> int:
    """As the configuration says, or of the folder that it names, or ImageNet's."""
    from hydra.utils import instantiate

    if plain["plan"]["images"] is not None:
        return plain["plan"]["images"]
    if not names_images(plain):
        return IMAGENET
    data = instantiate(plain["data"])
    data.prepare_data()
    data.setup("fit")
    return len(data.source)


def kept_checkpoints(plain: dict[str, Any]) -> int:
    """How many lie on the disk at once, the one that is being written included."""
    given = plain["callbacks"].get("checkpoint") or {}
    best, every = given.get("save_top_k", 1), given.get("every_n_epochs") or 1
    return 1 + (best if best >= 0 else max(1, int(plain["schedule"]["epochs"] // every)))


@hydra.main(version_base="1.3", config_path=CONF_DIR, config_name="plan")
def main(cfg: DictConfig) -> None:
    """Tell on one screen what the run would take."""
    from conmim_lightning.speed.device import training_device

    plain = check(cfg)
    quiet_libraries()
    on_cpu = training_device(plain["trainer"]["accelerator"]).type == "cpu"
    if on_cpu and plain["trainer"]["precision"] == "16-mixed":
        raise ValueError("plan knows trainer.precision=16-mixed on a GPU only: CPUs take minutes a step in it")
    for_pretraining(plain, "plan")
    os.makedirs(plain["paths"]["run_dir"], exist_ok=True)
    found = forecast(plain)

    from conmim_lightning.speed.forecast import told

    print(told(found))
    path = Path(plain["paths"]["run_dir"], "plan.json")
    path.write_text(json.dumps(found, indent=1))
    print(os.path.relpath(path))


if __name__ == "__main__":
    register_resolvers()
    with told_plainly():
        main()
