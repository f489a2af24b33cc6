"""Run a study: ``python -m conmim_lightning.study study=cifar10 -- trainer=cpu data.root=/images/cifar10``.

A study is a list of runs of ``train`` and a table of their results: encoders are pre-trained, then evaluated. Complete
runs are not repeated; a stopped one continues from its checkpoint or, as probes, starts again. Give the same command
again at any time. Table and figure are written after each run. Words after ``--`` are overrides of every run.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from conmim_lightning.config.check import CONF_DIR, check
from conmim_lightning.files import check_writable
from conmim_lightning.runtime.errors import quiet_libraries
from conmim_lightning.runtime.folder_lock import folder_lock
from conmim_lightning.runtime.launch import run_command
from conmim_lightning.runtime.results import print_existing


def run(cfg: DictConfig) -> str:
    """Check a composed configuration, run what is not complete, and return the table.

    Raises:
        ValueError: a fault of the configuration, or a run failed.
    """
    config = check(cfg, "study")
    from hydra.utils import instantiate

    from conmim_lightning.studies.execution import Execution
    from conmim_lightning.studies.outlook import describe, listing

    quiet_libraries()
    chosen = {key: config[key] for key in ("seeds", "encoder_seeds") if config[key] is not None}
    study = instantiate(config["study"] | chosen)
    folder = Path(config["output"]).absolute()
    execution = Execution(folder, overrides=config["overrides"], jobs=config["jobs"])
    runs = study.runs(config["only"])
    print(describe(execution, runs, study.hours), flush=True)
    if config["dry_run"]:
        return listing(execution, runs)
    check_writable(folder)
    with folder_lock(str(folder)):
        for line in execution.run_all(runs):
            print(f"{line}\n", end="", flush=True)  # in one write, as threads print, too
            _write(study, folder)
        return _write(study, folder)


def _write(study: Any, folder: Path) -> str:
    """Write the table and the figure of the results so far; return the table."""
    from conmim_lightning.studies.figure import draw
    from conmim_lightning.studies.table import collect, format_differences, format_table, write_table

    table = collect(study, folder)
    write_table(study, table, folder)
    draw(study, table, folder / "table.png")
    return "\n\n".join(filter(None, [format_table(study, table), format_differences(study, table)]))


@hydra.main(version_base="1.3", config_path=CONF_DIR, config_name="study")
def main(cfg: DictConfig) -> None:
    """Run, and print the table and the paths of its files."""
    print(f"\n{run(cfg)}\n")
    print_existing(Path(cfg.output, name) for name in ("table.md", "table.json", "table.png"))


def with_overrides(words: Sequence[str]) -> list[str]:
    """Return arguments with the words after "--" as the list ``overrides``, in Hydra's grammar."""
    if "--" not in words:
        return list(words)
    position = list(words).index("--")
    return [*words[:position], f"overrides={json.dumps(list(words[position + 1 :]), ensure_ascii=False)}"]


if __name__ == "__main__":
    sys.argv[1:] = with_overrides(sys.argv[1:])
    run_command(main)
