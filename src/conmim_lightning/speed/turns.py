"""Several ways take their steps one after the other, a step a turn."""

from collections.abc import Callable, Mapping
from typing import Any

from conmim_lightning.speed.remote import Remote

_PARTED = 5  # steps at most whose parts are timed


def in_turn(makers: Mapping[str, Callable[[], Remote]], *, warmup: int, steps: int) -> dict[str, Any]:
    """Time them.

    Args:
        makers: for each name what makes a ``Remote`` of a ``Runner``; names that begin with "plain" have no parts.
        warmup: steps not counted.
        steps: that are.

    Returns:
        For each name seconds of every "step" and "perturbation", the "loss" of each, "peak_bytes" and "parts".
    """
    runners = {name: make() for name, make in makers.items()}
    found: dict[str, Any] = {name: {"step": [], "perturbation": [], "loss": []} for name in runners}
    for runner in runners.values():
        runner.ask("steps", warmup)
    for _ in range(steps):
        for name, runner in runners.items():
            for part, values in runner.ask("steps", 1).items():
                found[name][part] += values
    for name, runner in runners.items():
        found[name]["peak_bytes"] = runner.ask("peak")
        if not name.startswith("plain"):
            found[name]["parts"] = runner.ask("parts", min(steps, _PARTED))
        runner.end()
    return found
