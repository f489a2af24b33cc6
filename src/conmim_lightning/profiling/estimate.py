"""Estimate of a run's time, memory and disk space from its configuration."""

import statistics
from collections.abc import Sequence

import torch
from hydra.utils import instantiate

from conmim_lightning.data.checks import check_at_least
from conmim_lightning.profiling.batch_size import largest_batch
from conmim_lightning.profiling.build import Config, build_runner, build_task, has_image_root, synthetic_batch
from conmim_lightning.profiling.device import describe_device, matmul_rate, memory_limit, training_device
from conmim_lightning.profiling.flops import count_flops, count_parameters
from conmim_lightning.profiling.step.train_step import DTYPES
from conmim_lightning.profiling.worker import OutOfMemoryError, Worker
from conmim_lightning.runtime.results import Result

IMAGENET = 1_281_167
"""Number of images in ImageNet-1K's training set."""

_SMALL = {"cpu": 8, "cuda": 32}  # memory is measured at this batch size and at half of it


class Estimate:
    """Estimate a pre-training run by counting its parameters and FLOP and timing a few steps.

    Args:
        images: number of training images; null counts those of ``data.root``, or assumes ImageNet-1K's number.
        devices: numbers of devices to report hours for, each >= 1.
        memory: GiB per device for the largest batch, >= 0.01; null uses nine tenths of the free memory.
        warmup: steps not counted, >= 0.
        steps: steps counted, >= 1.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self,
        *,
        images: int | None = None,
        devices: Sequence[int] = (1, 2, 4, 8),
        memory: float | None = None,
        warmup: int = 2,
        steps: int = 3,
    ) -> None:
        check_at_least(1, images=images, steps=steps)
        check_at_least(0, warmup=warmup)
        if isinstance(devices, int) or not devices or not all(isinstance(n, int) and n >= 1 for n in devices):
            raise ValueError(f"plan.devices must be a list of numbers of devices, each at least 1, got {devices}")
        if memory is not None and not memory >= 0.01:
            raise ValueError(f"plan.memory must be at least 0.01 GiB, or null, got {memory}")
        self.images = images
        self.devices = list(devices)
        self.memory = memory
        self.warmup = warmup
        self.steps = steps

    def run(self, config: Config) -> Result:
        """Count and measure.

        Returns:
            device, precision, batch_size, images (and images_known: whether the number is the user's or ImageNet's),
            epochs, accumulate_grad_batches, devices; parameters by module; flops per image, by phase and for the
            whole "step"; memory: bytes by kind, and per additional image; largest_batch; timed
            (batch_size, seconds of each step, FLOP per second of matrix products); checkpoint (bytes, seconds to write,
            their number).

        Raises:
            ValueError: the precision cannot be timed here, or the schedule has no epochs.
        """
        device, precision = training_device(config["trainer"]["accelerator"]), config["trainer"]["precision"]
        if precision not in DTYPES:
            raise ValueError(f"plan supports trainer.precision of {', '.join(DTYPES)}, got {precision!r}")
        if device.type == "cpu" and precision == "16-mixed":
            raise ValueError("plan supports trainer.precision=16-mixed on a GPU only: on a CPU, a step takes minutes")
        if config["schedule"]["epochs"] is None:
            raise ValueError("plan needs a schedule in epochs; set schedule.epochs")
        result: Result = {
            "device": describe_device(device),
            "precision": precision,
            "batch_size": config["data"]["batch_size"],
            "images": self._count_images(config),
            "images_known": self.images is not None or has_image_root(config),
            "epochs": config["schedule"]["epochs"],
            "accumulate_grad_batches": config["schedule"]["accumulate_grad_batches"],
            "devices": self.devices,
        }
        result |= _counts(config)
        result |= self._measurements(config, precision, device)
        result["timed"]["matmul_rate"] = matmul_rate(device, DTYPES[precision] or torch.float32)
        return result

    def _count_images(self, config: Config) -> int:
        if self.images is not None:
            return self.images
        if not has_image_root(config):
            return IMAGENET
        data = instantiate(config["data"])
        data.prepare_data()
        data.setup("fit")
        return len(data.source)

    def _measurements(self, config: Config, precision: str, device: torch.device) -> Result:
        """Measure memory, the largest batch, the seconds of steps, and the checkpoint."""
        limit, batch_size = memory_limit(device, self.memory), config["data"]["batch_size"]
        size = max(4, min(_SMALL[device.type], batch_size))
        half, whole = self._measure(config, precision, size // 2), self._measure(config, precision, size)
        stored = stored_view_bytes(config, device)
        half["peak"] += stored * (size // 2)
        whole["peak"] += stored * size
        largest = largest_batch((size // 2, half["peak"]), (size, whole["peak"]), limit)
        per_image = (whole["peak"] - half["peak"]) / (size - size // 2)
        memory = whole["held"] | {"image": per_image, "batch_size": size, "peak": whole["peak"], "limit": limit}
        fitting = min(batch_size, largest)
        if device.type == "cuda" and fitting > size:  # a CPU is as fast with small batches as with large ones
            size, whole = self._measure_largest(config, precision, fitting, size, whole)
            if size < fitting and self.memory is None:
                largest = size  # the device holds fewer images than the line predicted
        return {
            "memory": memory,
            "largest_batch": largest,
            "timed": {"batch_size": size, "seconds": whole["seconds"]},
            "checkpoint": whole["saved"] | {"count": num_checkpoints(config)},
        }

    def _measure_largest(
        self, config: Config, precision: str, wanted: int, size: int, measured: Result
    ) -> tuple[int, Result]:
        """Measure the wanted batch size; reduce it by an eighth as long as memory runs out."""
        while wanted > size:
            try:
                return wanted, self._measure(config, precision, wanted)
            except OutOfMemoryError:
                wanted = wanted * 7 // 8
        return size, measured

    def _measure(self, config: Config, precision: str, size: int) -> Result:
        """Time steps in a separate process."""
        runner = Worker(f"batch {size}", build_runner, config, "ours", precision, size)
        runner.call("steps", self.warmup)
        steps = runner.call("steps", self.steps)
        result = {
            "seconds": [sum(pair) for pair in zip(steps["perturbation"], steps["step"], strict=True)],
            "peak": runner.call("peak"),
            "held": runner.call("memory_by_kind"),
            "saved": runner.call("time_checkpoint", config["paths"]["run_dir"]),
        }
        runner.close()
        return result


def images_per_second(result: Result) -> float:
    """Return the median rate of the timed steps, including the perturbation."""
    return result["timed"]["batch_size"] / statistics.median(result["timed"]["seconds"])


def hours(result: Result, devices: int) -> float:
    """Return the hours of the whole run on a number of devices, assuming that they scale perfectly."""
    return result["images"] * result["epochs"] / (images_per_second(result) * devices) / 3600


def optimizer_steps(result: Result, devices: int) -> int:
    """Return the optimizer steps of the run; epochs drop incomplete batches, their last step may have fewer batches."""
    batches = result["images"] // (result["batch_size"] * devices)
    return int(-(-batches // result["accumulate_grad_batches"]) * result["epochs"])


def stored_view_bytes(config: Config, device: torch.device) -> int:
    """Return the bytes per image of the views that ``NonFiniteDump`` keeps in addition to the current views."""
    if device.type != "cuda" or not config["callbacks"].get("non_finite_dump"):
        return 0
    backbone, float32, views = config["backbone"], 4, 2
    batches = 2 * config["schedule"]["accumulate_grad_batches"] - 1  # batches of this step and of the previous step
    return batches * views * float32 * backbone["in_chans"] * backbone["img_size"] ** 2


def num_checkpoints(config: Config) -> int:
    """Return the number of checkpoints on the disk at once, including the one that is being written."""
    settings = config["callbacks"].get("checkpoint") or {}
    best, every = settings.get("save_top_k", 1), settings.get("every_n_epochs") or 1
    return 1 + (best if best >= 0 else max(1, int(config["schedule"]["epochs"] // every)))


def _counts(config: Config) -> Result:
    """Return the counts of parameters and FLOP."""
    task, batch = build_task(config), synthetic_batch(config, 2)
    flops = {name: count / len(batch.crop) for name, count in count_flops(task, batch).items()}
    return {"parameters": count_parameters(task.model.student), "flops": flops | {"step": sum(flops.values())}}
