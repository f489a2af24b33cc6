"""Write reports of runs: ``python -m conmim_lightning.report runs/A``, or ``runs/A runs/B ...`` to compare them.

The report of one run is ``report.html`` in its folder; ``train`` writes it, too. A comparison is ``comparison.html`` in
the working directory. ``output=x.html`` names another file. The files need no network.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from conmim_lightning.runtime.errors import user_errors

_COMPARISON = "comparison.html"


def run(folders: Sequence[str], output: str | None = None) -> Path:
    """Write the report of a run, or the comparison of several, and return its path.

    Raises:
        ValueError: a folder holds no run.
    """
    from conmim_lightning.reporting.run_report import write_comparison, write_run_report

    if not folders:
        raise ValueError("give the folder of a run, such as runs/<date>/<time>-<process>, or several to compare")
    if len(folders) == 1:
        return write_run_report(folders[0], Path(output) if output else None)
    return write_comparison(folders, Path(output or _COMPARISON))


def main() -> None:
    """Read the command line, write, and print the path."""
    words = sys.argv[1:]
    if any(word in ("-h", "--help") for word in words):
        print(f"usage: conmim report <run> [<run> ...] [output=<file>]\n\n{__doc__}")
        return
    with user_errors():
        settings = dict(word.split("=", 1) for word in words if "=" in word and not Path(word).exists())
        if unknown := set(settings) - {"output"}:
            raise ValueError(f"unknown settings {sorted(unknown)}; allowed is output")
        folders = [word for word in words if word.partition("=")[0] not in settings]
        print(os.path.relpath(run(folders, settings.get("output"))))


if __name__ == "__main__":
    main()
