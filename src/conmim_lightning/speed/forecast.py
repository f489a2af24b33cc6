"""What a run would take, as text."""

import statistics
from typing import Any


def images_per_second(found: dict[str, Any]) -> float:
    """Median rate of the timed steps, the perturbation included."""
    return found["timed"]["batch_size"] / statistics.median(found["timed"]["seconds"])


def hours(found: dict[str, Any], devices: int) -> float:
    """Of the whole recipe on so many devices, if they keep each other from nothing."""
    return found["images"] * found["epochs"] / (images_per_second(found) * devices) / 3600


def optimizer_steps(found: dict[str, Any], devices: int) -> int:
    """Of the whole recipe. An epoch leaves out its last incomplete batch; its last step may sum fewer batches."""
    batches = found["images"] // (found["batch_size"] * devices)
    return int(-(-batches // found["accumulate"]) * found["epochs"])


def told(found: dict[str, Any]) -> str:
    """One screen.

    Args:
        found: as ``plan.forecast`` returns it.
    """
    return "\n".join([*_counts(found), *_memory(found), *_time(found), *_disk(found)])


def _counts(found: dict[str, Any]) -> list[str]:
    parameters, operations = found["parameters"], found["operations"]
    counted = operations["counted"] / operations["step"]
    parts = {name: operations[name] / 1e9 for name in ("encoder", "projector", "teacher", "loss", "step")}
    return [
        f"parameters     encoder {parameters['encoder'] / 1e6:.1f} M, projector {parameters['projector'] / 1e6:.1f} M; "
        "the teacher as many again, without gradients",
        f"operations     {parts['step']:.1f} GFLOP an image and step: student forward {parts['encoder']:.1f} encoder + "
        f"{parts['projector']:.1f} projector, teacher {parts['teacher']:.1f}, loss {parts['loss']:.2f}, rest backward "
        f"(torch counts {counted:.3f} of it)",
    ]


def _memory(found: dict[str, Any]) -> list[str]:
    memory = found["memory"]
    parts = ", ".join(f"{part} {_gib(memory[part])}" for part in ("weights", "gradients", "optimizer"))
    largest, room = found["largest_batch"], "fits"
    if found["batch_size"] > largest:
        less = f"take data.batch_size={largest} or less, " if largest > 1 else "not even one image does, "
        room = f"does NOT fit: {less}schedule.accumulate= for the rest, or task.model.checkpointing=true"
    return [
        f"memory         {parts}; each image {memory['image'] / 2**20:.0f} MiB; peak {_gib(memory['peak'])} at batch "
        f"{memory['batch_size']}",
        f"largest batch  about {largest} images a device in {_gib(memory['limit'])}; data.batch_size "
        f"{found['batch_size']} {room}",
    ]


def _time(found: dict[str, Any]) -> list[str]:
    rate, timed = images_per_second(found), found["timed"]
    share = rate * found["operations"]["step"] / timed["ceiling"]
    lines = [
        f"timed          {found['device']}, {found['precision']}, batch {timed['batch_size']}, {len(timed['seconds'])} "
        f"steps: {_rounded(rate)} images/s, {100 * share:.0f} % of its products' {timed['ceiling'] / 1e12:.3g} TFLOP/s",
        f"recipe         {found['epochs']:g} epochs of {found['images']:,} images{_whose(found)}; hours if data keeps "
        "up and devices do not wait for one another:",
    ]
    for devices in found["devices"]:
        batch = found["batch_size"] * devices * found["accumulate"]
        steps = optimizer_steps(found, devices)
        lines.append(
            f"{devices:>6} devices {_hours(hours(found, devices)):>12}   {steps:,} steps of {batch:,} images; data at "
            f"{_rounded(rate * devices)} images/s"
        )
    return lines


def _whose(found: dict[str, Any]) -> str:
    return "" if found["counted_images"] else " (ImageNet-1K's; data.root= or plan.images= tell yours)"


def _disk(found: dict[str, Any]) -> list[str]:
    checkpoint = found["checkpoint"]
    return [
        f"disk           {_gib(checkpoint['bytes'])} a checkpoint, written in {checkpoint['seconds']:.1f} s here; "
        f"{_gib(checkpoint['bytes'] * checkpoint['kept'])} at most, for {checkpoint['kept']} at once"
    ]


def _gib(count: float) -> str:
    return f"{count / 2**30:.2f} GiB"


def _hours(value: float) -> str:
    return f"{value:.1f} h" if value < 100 else f"{value / 24:.1f} days"


def _rounded(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
