"""What a study still has to do, told before it starts."""

from collections.abc import Mapping, Sequence

from conmim_lightning.studies.definition import Run
from conmim_lightning.studies.execution import Execution


def describe(execution: Execution, runs: Sequence[Run], hours: Mapping[str, float]) -> str:
    """Return the number of runs and of complete ones, and the hours that the others need.

    Args:
        execution: knows which runs are complete, and how long they took.
        runs: all runs.
        hours: hours of a run by kind, on two CPU cores; once runs are complete here, their times correct them.
    """
    records = {run: record for run in runs if (record := execution.record(run)) is not None}
    text = f"{len(runs)} runs, {len(records)} complete"
    todo = [run for run in runs if run not in records]
    if not todo or any(run.kind not in hours for run in todo):
        return text
    expected = sum(hours[run.kind] for run in todo)
    known = [(record["seconds"], 3600 * hours[run.kind]) for run, record in records.items() if hours.get(run.kind)]
    if known:
        factor = sum(seconds for seconds, _ in known) / sum(seconds for _, seconds in known)
        return f"{text}; the others need about {_time(expected * factor / execution.jobs)} here, by the complete ones"
    return f"{text}; the others need about {_time(expected)} on two CPU cores as in RESULTS.md; a GPU is much faster"


def listing(execution: Execution, runs: Sequence[Run]) -> str:
    """Return a line per run: whether it is complete, its name and its overrides."""
    states = ["complete" if execution.record(run) else "to do" for run in runs]
    width = max(len(run.name) for run in runs)
    return "\n".join(
        f"{state:<8}  {run.name:<{width}}  {' '.join(run.words)}" for state, run in zip(states, runs, strict=True)
    )


def _time(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{max(1, round(60 * hours))} min"
