"""Which ways to take a step a benchmark compares."""

from typing import Any

from conmim_lightning.speed.ours import DTYPES
from conmim_lightning.speed.runner import WAYS


def pairs(wanted: dict[str, Any]) -> list[tuple[str, str]]:
    """Ways with their precisions: each way in all of them, or in the one that it names, as "plain 16-mixed".

    Raises:
        ValueError: a way or precision is unknown.
    """
    found = []
    for precision in wanted["precisions"]:
        for way in wanted["ways"]:
            pair = tuple(way.split(maxsplit=1)) if " " in way else (way, precision)
            if pair[0] not in WAYS or pair[1] not in DTYPES:
                raise ValueError(
                    f"benchmark.ways and precisions must be of {', '.join(WAYS)} and of {', '.join(DTYPES)}, "
                    f"got {way!r} in {precision!r}"
                )
            found.append(pair)
    return list(dict.fromkeys(found))


def departures(task: dict[str, Any]) -> list[str]:
    """What the task's configuration does otherwise than the method, and the official step, written out, does not do."""
    found = {
        "task.dictionary": (task["dictionary"], "image"),
        "task.similarity_filter": (task["similarity_filter"], None),
        "task.model.projected": (task["model"]["projected"], "all"),
        "backbone.drop_path_rate": (task["model"]["backbone"].get("drop_path_rate", 0), 0),
    }
    return [f"{name}={value}" for name, (value, method) in found.items() if value != method]
