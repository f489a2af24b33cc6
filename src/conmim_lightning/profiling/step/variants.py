"""Variants of the training step that a benchmark compares."""

from collections.abc import Callable, Mapping, Sequence

from conmim_lightning.config.check import Config
from conmim_lightning.profiling.step.train_step import DTYPES
from conmim_lightning.profiling.worker import Worker
from conmim_lightning.runtime.results import Result

VARIANTS = ("reference", "ours", "compiled")
"""The reference step; our step, compiled if configured; our step with ``torch.compile`` in any case."""

_PHASE_STEPS = 5  # largest number of steps whose phases are timed


def variant_pairs(variants: Sequence[str], precisions: Sequence[str]) -> list[tuple[str, str]]:
    """Pair each variant with all precisions, or with the precision in its name, as in "reference 16-mixed".

    Raises:
        ValueError: a variant or precision is unknown.
    """
    pairs = []
    for precision in precisions:
        for variant in variants:
            name, _, own = variant.partition(" ")
            pair = (name, own or precision)
            if pair[0] not in VARIANTS or pair[1] not in DTYPES:
                raise ValueError(
                    f"benchmark.variants and precisions must be of {', '.join(VARIANTS)} and of {', '.join(DTYPES)}, "
                    f"got {variant!r} in {precision!r}"
                )
            pairs.append(pair)
    return list(dict.fromkeys(pairs))


def last_of_ours(variants: Sequence[str]) -> str:
    """Return the last variant that is not the reference and names no precision; "ours" if there is none."""
    return [variant for variant in ("ours", *variants) if variant in ("ours", "compiled")][-1]


def departures(config: Config) -> list[str]:
    """Return the settings that depart from the published method; the reference step does not have them.

    Args:
        config: checked configuration.
    """
    loss, backbone = config["loss"], config["backbone"]
    settings = {
        "loss.dictionary": (loss.get("dictionary", "image"), "image"),
        "loss.similarity_filter": (loss.get("similarity_filter"), None),
        "task.model.project": (config["task"]["model"]["project"], "all"),
        "backbone.drop_path_rate": (backbone.get("drop_path_rate", 0), 0),
    }
    return [f"{name}={value}" for name, (value, published) in settings.items() if value != published]


def interleave(makers: Mapping[str, Callable[[], Worker]], *, warmup: int, steps: int) -> Result:
    """Time variants in turn, one step each, so that background load affects all equally.

    Args:
        makers: functions by name that start a ``Worker`` of a ``Runner``; names with prefix "reference" have no phases.
        warmup: steps not counted.
        steps: steps counted.

    Returns:
        By name: seconds of every "step" and "perturbation", the "loss" of each step, "peak_bytes" and "phases".
    """
    runners = {name: make() for name, make in makers.items()}
    results: Result = {name: {"step": [], "perturbation": [], "loss": []} for name in runners}
    for runner in runners.values():
        runner.call("steps", warmup)
    for _ in range(steps):
        for name, runner in runners.items():
            for key, values in runner.call("steps", 1).items():
                results[name][key] += values
    for name, runner in runners.items():
        results[name]["peak_bytes"] = runner.call("peak")
        if not name.startswith("reference"):
            results[name]["phases"] = runner.call("phases", min(steps, _PHASE_STEPS))
        runner.close()
    return results
