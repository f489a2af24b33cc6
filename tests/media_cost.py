"""Cost of logging pictures during the demo: ``python tests/media_cost.py``, about six minutes.

It prints the seconds that the report spends on drawing and logging pictures to wandb (offline) within a run, and their
fraction of the run's training time.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from conmim_lightning import configure
from conmim_lightning.callbacks.reports.pretrain import PretrainReport
from conmim_lightning.train import run


def main() -> None:
    """Run the demo with the overrides of the command line, and print the cost."""
    spent: list[float] = []
    log = PretrainReport._log

    def timed(*args: Any) -> None:
        started = time.perf_counter()
        log(*args)
        spent.append(time.perf_counter() - started)

    PretrainReport._log = timed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        own = ["experiment=quickstart", "trainer=cpu", "logger=wandb", "logger.wandb.offline=true"]
        data = f"paths.data_dir={Path('data').absolute()}"
        started = time.perf_counter()
        trainer = run(configure("train", *own, data, f"paths.run_dir={folder}", *sys.argv[1:]))
        total = time.perf_counter() - started
    seconds = sum(spent)
    print(f"pictures {len(spent)} times in {trainer.global_step} steps: {seconds:.2f} s of {total:.1f} s", end=", ")
    print(f"{100 * seconds / total:.2f} %")


if __name__ == "__main__":
    main()
