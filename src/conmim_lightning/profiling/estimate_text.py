"""Text of the estimate of a run."""

from conmim_lightning.profiling.estimate import hours, images_per_second, optimizer_steps
from conmim_lightning.runtime.results import Result


def format_estimate(result: Result) -> str:
    """Format the result of ``Estimate.run`` for one screen."""
    return "\n".join([*_counts(result), *_memory(result), *_time(result), *_disk(result)])


def _counts(result: Result) -> list[str]:
    parameters, flops = result["parameters"], result["flops"]
    gflop = {name: count / 1e9 for name, count in flops.items()}
    return [
        f"parameters     encoder {parameters['encoder'] / 1e6:.1f} M, projector {parameters['projector'] / 1e6:.1f} M; "
        "the teacher has as many, without gradients",
        f"compute        {gflop['step']:.1f} GFLOP per image and step: student forward {gflop['encoder']:.1f} encoder "
        f"+ {gflop['projector']:.1f} projector, teacher {gflop['teacher']:.1f}, loss {gflop['loss']:.2f}, "
        f"backward {gflop['backward']:.1f}",
    ]


def _memory(result: Result) -> list[str]:
    memory = result["memory"]
    kinds = ", ".join(f"{kind} {_gib(memory[kind])}" for kind in ("weights", "gradients", "optimizer"))
    largest, verdict = result["largest_batch"], "fits"
    if result["batch_size"] > largest:
        advice = f"set data.batch_size={largest} or less, " if largest > 1 else "not even one image does; "
        verdict = f"does NOT fit: {advice}schedule.accumulate_grad_batches= or task.model.checkpointing=true"
    return [
        f"memory         {kinds}; {memory['image'] / 2**20:.0f} MiB per image; peak {_gib(memory['peak'])} at batch "
        f"size {memory['batch_size']}",
        f"largest batch  about {largest} images per device in {_gib(memory['limit'])}; data.batch_size="
        f"{result['batch_size']} {verdict}",
    ]


def _time(result: Result) -> list[str]:
    rate, timed = images_per_second(result), result["timed"]
    fraction = rate * result["flops"]["step"] / timed["matmul_rate"]
    source = "" if result["images_known"] else " (ImageNet-1K's; set data.root= or plan.images= for yours)"
    lines = [
        f"timed          {result['device']}, {result['precision']}, batch size {timed['batch_size']}, "
        f"{len(timed['seconds'])} steps: {_rounded(rate)} images/s, {100 * fraction:.0f} % of its matrix products' "
        f"{timed['matmul_rate'] / 1e12:.3g} TFLOP/s",
        f"run            {result['epochs']:g} epochs of {result['images']:,} images{source}; hours if data loading "
        "keeps up and devices do not wait for one another:",
    ]
    for devices in result["devices"]:
        batch = result["batch_size"] * devices * result["accumulate_grad_batches"]
        lines.append(
            f"{devices:>6} devices {_hours(hours(result, devices)):>12}   {optimizer_steps(result, devices):,} steps "
            f"of {batch:,} images; data at {_rounded(rate * devices)} images/s"
        )
    return lines


def _disk(result: Result) -> list[str]:
    checkpoint = result["checkpoint"]
    return [
        f"disk           {_gib(checkpoint['bytes'])} per checkpoint, written in {checkpoint['seconds']:.1f} s here; at "
        f"most {_gib(checkpoint['bytes'] * checkpoint['count'])}, for {checkpoint['count']} at once"
    ]


def _gib(count: float) -> str:
    return f"{count / 2**30:.2f} GiB"


def _hours(value: float) -> str:
    return f"{value:.1f} h" if value < 100 else f"{value / 24:.1f} days"


def _rounded(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"
