"""What a benchmark of the step found, as text."""

import statistics
from collections.abc import Sequence
from typing import Any


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median and third."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    first, middle, third = statistics.quantiles(values, n=4, method="inclusive")
    return first, middle, third


def images_per_second(way: dict[str, Any], batch_size: int, *, perturbed: bool = False) -> float:
    """Median rate of a way's steps, from views to the teacher's update, or with the perturbation before it."""
    before = statistics.median(way["perturbation"]) if perturbed else 0.0
    return batch_size / (statistics.median(way["step"]) + before)


def told(found: dict[str, Any]) -> str:
    """A table of all that was measured.

    Args:
        found: as ``benchmark.measure`` returns it.
    """
    batch, operations = found["batch_size"], found["operations"]
    lines = [
        f"{found['device']}, torch {found['torch']}, batch {batch}, {operations / 1e9:.1f} GFLOP an image",
        *(f"{name}: products at {rate / 1e9:.0f} GFLOP/s" for name, rate in found["ceilings"].items()),
    ]
    if found["ways"]:
        lines.append(
            f"{'':22}{'images/s':>10}{'quartiles':>18}{'x plain':>9}{'TFLOP/s':>9}{'of ceiling':>12}{'perturbed':>11}"
            f"{'peak GiB':>10}{'of plain':>10}"
        )
        lines += [_told_way(found, name) for name in found["ways"]]
        lines += _told_other_precisions(found)
        lines += _told_losses(found["ways"])
        if found.get("departures"):
            lines.append(f"plain is the published method all the same, without {', '.join(found['departures'])}")
        lines += [_told_parts(name, way) for name, way in found["ways"].items() if "parts" in way]
    lines += [f"{name} failed: {error}" for name, error in found.get("errors", {}).items()]
    for precision, ways in found.get("attention", {}).items():
        lines += [f"attention of a block in {precision}, ms:", *(_told_attention(*way) for way in ways.items())]
    lines += _told_flow(found)
    for precision, tried in found.get("sizes", {}).items():
        lines += [f"{precision}, by batch size:", *(_told_size(one, operations, found, precision) for one in tried)]
    return "\n".join(lines)


def _told_way(found: dict[str, Any], name: str) -> str:
    batch, way, precision = found["batch_size"], found["ways"][name], name.split()[1]
    first, middle, third = (batch / value for value in quartiles(way["step"]))
    reference = found["ways"].get(f"plain {precision}")
    ratio = f"{middle / images_per_second(reference, batch):.2f}" if reference else ""
    memory = f"{way['peak_bytes'] / reference['peak_bytes']:.2f}" if reference else ""
    rate = middle * found["operations"]
    return (
        f"{name:22}{middle:>10.2f}{f'{third:.2f} - {first:.2f}':>18}{ratio:>9}{rate / 1e12:>9.3g}"
        f"{100 * rate / found['ceilings'][precision]:>10.0f} %"
        f"{images_per_second(way, batch, perturbed=True):>11.2f}{way['peak_bytes'] / 2**30:>10.2f}{memory:>10}"
    )


def _told_other_precisions(found: dict[str, Any]) -> list[str]:
    """Our best way beside the official step in each precision that ours does not run in."""
    rates = {name: images_per_second(way, found["batch_size"]) for name, way in found["ways"].items()}
    mine = {name: rate for name, rate in rates.items() if not name.startswith("plain")}
    if not mine:
        return []
    best, precisions = max(mine, key=lambda name: mine[name]), {name.split()[1] for name in mine}
    alone = [name for name in rates if name.startswith("plain") and name.split()[1] not in precisions]
    return [f"{best} is {mine[best] / rates[name]:.2f} times {name}" for name in alone]


def _told_losses(ways: dict[str, Any]) -> list[str]:
    """Whether each way learns as the official step of its precision does, on the same views from the same weights."""
    lines = []
    for name, way in ways.items():
        reference = ways.get(f"plain {name.split()[1]}")
        if reference and not name.startswith("plain"):
            pairs = zip(way["loss"], reference["loss"], strict=True)
            apart = max(abs(mine - theirs) / theirs for mine, theirs in pairs)
            lines.append(
                f"loss of {name} {way['loss'][0]:.4f} to {way['loss'][-1]:.4f}, "
                f"at most {apart:.1e} of it apart from plain {name.split()[1]}"
            )
    return lines


def _told_parts(name: str, way: dict[str, Any]) -> str:
    parts = {"perturbation": statistics.median(way["perturbation"]), **way["parts"]}
    return f"{name}, ms: " + ", ".join(f"{part} {1000 * value:.0f}" for part, value in parts.items())


def _told_attention(name: str, way: dict[str, Any]) -> str:
    if "error" in way:
        return f"{name:>30}    not here: {way['error']}"
    return f"{name:>30}{1000 * way['no_gradient']:>8.2f} without gradient{1000 * way['gradient']:>8.2f} with gradients"


def _told_flow(found: dict[str, Any]) -> list[str]:
    """The loader alone and everything together, where they were measured."""
    lines = []
    for key, title in (("data", "data alone"), ("run", "end to end")):
        if key in found:
            flow = found[key]
            low, middle, high = quartiles(flow["rates"])
            told = f"{title + ' ' + flow['precision']:22}{middle:>10.2f}{f'{low:.2f} - {high:.2f}':>18}"
            if "waits" in flow:
                told += f"   waiting for data {100 * statistics.median(flow['waits']):.0f} % of the time"
            lines.append(f"{told}   ({flow['num_workers']} loader processes)")
    if "run" in found and found.get("ways"):
        name = f"{found['run']['way']} {found['run']['precision']}"
        if name in found["ways"]:
            alone = images_per_second(found["ways"][name], found["batch_size"], perturbed=True)
            share = statistics.median(found["run"]["rates"]) / alone
            lines.append(f"end to end at {100 * share:.0f} % of the rate of {name} on made batches, perturbed")
    return lines


def _told_size(one: dict[str, Any], operations: float, found: dict[str, Any], precision: str) -> str:
    if one["step"] is None:
        return f"{one['batch_size']:>22}    out of memory"
    rate = one["batch_size"] / statistics.median(one["step"])
    share = 100 * rate * operations / found["ceilings"][precision]
    return (
        f"{one['batch_size']:>22}{rate:>10.2f} images/s{share:>6.0f} % of ceiling{one['peak_bytes'] / 2**30:>8.2f} GiB"
    )


def against(found: dict[str, Any], other: dict[str, Any]) -> str:
    """Rates and memory of the ways that both have, as ratios to another's."""
    told = other.get("told") or f"{other['device']}, torch {other['torch']}"
    lines = [f"against {told}, batch {other['batch_size']}:"]
    for name in found["ways"]:
        if name in other["ways"]:
            now = images_per_second(found["ways"][name], found["batch_size"])
            then = images_per_second(other["ways"][name], other["batch_size"])
            memory = found["ways"][name]["peak_bytes"] / other["ways"][name]["peak_bytes"]
            lines.append(f"{name:22}{now / then:>6.2f} times the images a second, {memory:.2f} times the memory")
    return "\n".join(lines)
