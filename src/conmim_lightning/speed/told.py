"""What a benchmark of the step found, as text."""

import statistics
from typing import Any


def images_per_second(way: dict[str, Any], batch_size: int, *, perturbed: bool = False) -> float:
    """Median rate of a way's steps, from views to the teacher's update, or with the perturbation before it."""
    before = statistics.median(way["perturbation"]) if perturbed else 0.0
    return batch_size / (statistics.median(way["step"]) + before)


def told(found: dict[str, Any]) -> str:
    """A table of all ways, then the parts of ours.

    Args:
        found: as ``benchmark.measure`` returns it.
    """
    batch, operations = found["batch_size"], found["operations"]
    lines = [
        f"{found['device']}, torch {found['torch']}, batch {batch}, {operations / 1e9:.1f} GFLOP an image",
        *(f"{name}: products at {rate / 1e9:.0f} GFLOP/s" for name, rate in found["ceilings"].items()),
        f"{'':22}{'images/s':>10}{'quartiles':>16}{'x plain':>9}{'of ceiling':>12}{'perturbed':>11}{'peak GiB':>10}",
    ]
    for name, way in found["ways"].items():
        rate, precision = images_per_second(way, batch), name.split()[1]
        first, _, third = statistics.quantiles(way["step"], n=4) if len(way["step"]) > 1 else way["step"] * 3
        reference = found["ways"].get(f"plain {precision}")
        ratio = f"{rate / images_per_second(reference, batch):.2f}" if reference else ""
        lines.append(
            f"{name:22}{rate:>10.2f}{f'{batch / third:.2f} - {batch / first:.2f}':>16}{ratio:>9}"
            f"{100 * rate * operations / found['ceilings'][precision]:>10.0f} %"
            f"{images_per_second(way, batch, perturbed=True):>11.2f}{way['peak_bytes'] / 2**30:>10.2f}"
        )
    for name, way in found["ways"].items():
        if "parts" in way:
            parts = {"perturbation": statistics.median(way["perturbation"]), **way["parts"]}
            lines.append(f"{name}, ms: " + ", ".join(f"{part} {1000 * value:.0f}" for part, value in parts.items()))
    return "\n".join(lines)


def against(found: dict[str, Any], earlier: dict[str, Any]) -> str:
    """Rates of the ways that both have, as ratios to an earlier run."""
    lines = [f"against {earlier['device']}, torch {earlier['torch']}, batch {earlier['batch_size']}:"]
    for name in found["ways"]:
        if name in earlier["ways"]:
            now = images_per_second(found["ways"][name], found["batch_size"])
            then = images_per_second(earlier["ways"][name], earlier["batch_size"])
            lines.append(f"{name:22}{now / then:>6.2f} times the images a second")
    return "\n".join(lines)
