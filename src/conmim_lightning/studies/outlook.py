"""What a study still has to do, told before it starts."""

from collections.abc import Mapping, Sequence

from conmim_lightning.studies.definition import ENCODER, Run
from conmim_lightning.studies.execution import Execution


def describe(execution: Execution, runs: Sequence[Run], hours: Mapping[str, float]) -> str:
    """Return the number of runs and of complete ones, and the hours that the others need.

    Args:
        execution: knows which runs are complete, and how long they took.
        runs: all runs.
        hours: see ``Study``; once runs are complete here, their times correct them.
    """
    records = {run: record for run in runs if (record := execution.record(run)) is not None}
    text = f"{len(runs)} runs, {len(records)} complete"
    by_run = {run: _hours_of(run, hours) for run in runs}
    todo = [by_run[run] for run in runs if run not in records]
    if not todo or None in todo:
        return text
    expected = sum(filter(None, todo))
    known = [(record["seconds"], 3600 * needed) for run, record in records.items() if (needed := by_run[run])]
    if known:
        factor = sum(seconds for seconds, _ in known) / sum(seconds for _, seconds in known)
        return f"{text}; the others need about {_time(expected * factor / execution.jobs)} here, by the complete ones"
    return f"{text}; the others need about {_time(expected)} on two slow CPU cores; a GPU is much faster"


def listing(execution: Execution, runs: Sequence[Run]) -> str:
    """Return a line per run: whether it is complete, its name and its overrides."""
    states = ["complete" if execution.record(run) else "to do" for run in runs]
    width = max(len(run.name) for run in runs)
    return "\n".join(
        f"{state:<8}  {run.name:<{width}}  {' '.join(run.words)}" for state, run in zip(states, runs, strict=True)
    )


def _hours_of(run: Run, hours: Mapping[str, float]) -> float | None:
    """Return the hours of a run by the most special of its names; None if they are not known."""
    names = (f"{run.folder[0]}/{run.kind}", run.kind, *([ENCODER] if run.is_encoder else []))
    return next((hours[name] for name in names if name in hours), None)


def _time(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{max(1, round(60 * hours))} min"
