"""Text of the results of a step benchmark."""

import statistics
from collections.abc import Sequence

from conmim_lightning.runtime.results import Result

STREAMS = {"data": "data alone", "run": "end to end"}


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return first quartile, median and third quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    first, median, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, median, third


def images_per_second(variant: Result, batch_size: int, *, perturbed: bool = False) -> float:
    """Return the median rate of a variant's steps, views to teacher update; ``perturbed`` adds the perturbation."""
    perturbation = statistics.median(variant["perturbation"]) if perturbed else 0.0
    return batch_size / (statistics.median(variant["step"]) + perturbation)


def format_table(result: Result) -> str:
    """Format all results of ``StepBenchmark.run`` as a table."""
    batch, flops, variants = result["batch_size"], result["flops_per_image"], result["variants"]
    lines = [
        f"{result['device']}, torch {result['torch']}, batch size {batch}, {flops / 1e9:.1f} GFLOP per image",
        *(f"{name}: matrix products at {rate / 1e9:.0f} GFLOP/s" for name, rate in result["matmul_rates"].items()),
    ]
    if variants:
        lines.append(
            f"{'':24}{'images/s':>10}{'quartiles':>18}{'x reference':>13}{'TFLOP/s':>9}{'of products':>13}"
            f"{'perturbed':>11}{'peak GiB':>10}{'of reference':>14}"
        )
        lines += [_variant_line(result, name) for name in variants]
        lines += _other_precision_lines(variants, batch)
        lines += _loss_lines(variants)
        if result.get("departures"):
            lines.append(f"reference is the published method, without {', '.join(result['departures'])}")
        lines += [_phase_line(name, variant) for name, variant in variants.items() if "phases" in variant]
    lines += [f"{name} failed: {error}" for name, error in result.get("errors", {}).items()]
    for precision, implementations in result.get("attention", {}).items():
        lines += [
            f"attention of one block in {precision}, ms:",
            *(_attention_line(*item) for item in implementations.items()),
        ]
    lines += _stream_lines(result)
    for precision, sizes in result.get("batch_sizes", {}).items():
        rate = result["matmul_rates"][precision]
        lines += [f"{precision}, by batch size:", *(_size_line(size, flops, rate) for size in sizes)]
    return "\n".join(lines)


def format_comparison(result: Result, baseline: Result) -> str:
    """Format throughput and memory as ratios to the baseline, for the variants that both results contain."""
    name = baseline.get("name") or f"{baseline['device']}, torch {baseline['torch']}"
    lines = [f"baseline {name}, batch size {baseline['batch_size']}:"]
    for key, variant in result["variants"].items():
        if other := baseline["variants"].get(key):
            ratio = images_per_second(variant, result["batch_size"]) / images_per_second(other, baseline["batch_size"])
            memory = variant["peak_bytes"] / other["peak_bytes"]
            lines.append(f"{key:24}{ratio:>6.2f} times the images per second, {memory:.2f} times the memory")
    return "\n".join(lines)


def _variant_line(result: Result, name: str) -> str:
    batch, variant, precision = result["batch_size"], result["variants"][name], name.split()[1]
    fastest, median, slowest = (batch / value for value in quartiles(variant["step"]))
    reference = result["variants"].get(f"reference {precision}")
    ratio = f"{median / images_per_second(reference, batch):.2f}" if reference else ""
    memory = f"{variant['peak_bytes'] / reference['peak_bytes']:.2f}" if reference else ""
    rate = median * result["flops_per_image"]
    return (
        f"{name:24}{median:>10.2f}{f'{slowest:.2f} - {fastest:.2f}':>18}{ratio:>13}{rate / 1e12:>9.3g}"
        f"{100 * rate / result['matmul_rates'][precision]:>11.0f} %"
        f"{images_per_second(variant, batch, perturbed=True):>11.2f}{variant['peak_bytes'] / 2**30:>10.2f}{memory:>14}"
    )


def _other_precision_lines(variants: Result, batch: int) -> list[str]:
    """Compare our fastest variant with the reference in each precision that our variants were not timed in."""
    rates = {name: images_per_second(variant, batch) for name, variant in variants.items()}
    ours = {name: rate for name, rate in rates.items() if not name.startswith("reference")}
    if not ours:
        return []
    best, precisions = max(ours, key=lambda name: ours[name]), {name.split()[1] for name in ours}
    alone = [name for name in rates if name.startswith("reference") and name.split()[1] not in precisions]
    return [f"{best} is {ours[best] / rates[name]:.2f} times {name}" for name in alone]


def _loss_lines(variants: Result) -> list[str]:
    """Report how each variant's losses differ from the reference in its precision, on the same views and weights."""
    lines = []
    for name, variant in variants.items():
        reference = variants.get(f"reference {name.split()[1]}")
        if reference and not name.startswith("reference"):
            pairs = zip(variant["loss"], reference["loss"], strict=True)
            difference = max(abs(ours - expected) / expected for ours, expected in pairs)
            lines.append(
                f"loss of {name}: {variant['loss'][0]:.4f} to {variant['loss'][-1]:.4f}, largest relative difference "
                f"from reference {name.split()[1]}: {difference:.1e}"
            )
    return lines


def _phase_line(name: str, variant: Result) -> str:
    phases = {"perturbation": statistics.median(variant["perturbation"]), **variant["phases"]}
    return f"{name}, ms: " + ", ".join(f"{phase} {1000 * value:.0f}" for phase, value in phases.items())


def _attention_line(name: str, times: Result) -> str:
    if "error" in times:
        return f"{name:>8}    not available: {times['error']}"
    return (
        f"{name:>8}{1000 * times['no_gradient']:>8.2f} without gradient{1000 * times['gradient']:>8.2f} with gradients"
    )


def _stream_lines(result: Result) -> list[str]:
    """Report the loader without training, and training with the Trainer."""
    lines = []
    for key, title in STREAMS.items():
        if key in result:
            stream = result[key]
            low, median, high = quartiles(stream["rates"])
            text = f"{title + ' ' + stream['precision']:24}{median:>10.2f}{f'{low:.2f} - {high:.2f}':>18}"
            if "waits" in stream:
                text += f"   waiting for data {100 * statistics.median(stream['waits']):.0f} % of the time"
            lines.append(f"{text}   ({stream['num_workers']} loader processes)")
    if "run" in result:
        name = f"{result['run']['variant']} {result['run']['precision']}"
        if variant := result["variants"].get(name):
            alone = images_per_second(variant, result["batch_size"], perturbed=True)
            fraction = statistics.median(result["run"]["rates"]) / alone
            lines.append(f"end to end: {100 * fraction:.0f} % of the rate of {name} on synthetic batches, perturbed")
    return lines


def _size_line(size: Result, flops: float, matmul_rate: float) -> str:
    if size["step"] is None:
        return f"{size['batch_size']:>24}    out of memory"
    rate = size["batch_size"] / statistics.median(size["step"])
    return (
        f"{size['batch_size']:>24}{rate:>10.2f} images/s{100 * rate * flops / matmul_rate:>6.0f} % of matrix products"
        f"{size['peak_bytes'] / 2**30:>8.2f} GiB"
    )
