"""Time the training step: ``python -m conmim_lightning.benchmark experiment=vit_s_pretrain benchmark.batch_size=8``.

All stages of a run: ``benchmark.stages=[step,data,run,batch_sizes] data.root=/my/images``. The processing of images
before training: ``benchmark=data``; how it scales with the collection: ``benchmark=scaling``.
"""

from pathlib import Path
from typing import Protocol

import hydra
from omegaconf import DictConfig

from conmim_lightning.config.check import CONF_DIR, Config, check
from conmim_lightning.runtime.errors import quiet_libraries
from conmim_lightning.runtime.launch import run_command
from conmim_lightning.runtime.results import Result, Save, write_json


class Benchmark(Protocol):
    """A measurement of a configuration; a method ``draw(result, path)`` that writes a figure is optional."""

    def run(self, config: Config, save: Save) -> Result:
        """Return the results; call ``save`` with the results so far, so that a failure does not lose them."""
        ...

    def format(self, result: Result) -> str:
        """Format the results as a table."""
        ...


def run(config: Config, benchmark: Benchmark) -> None:
    """Measure, write ``benchmark.json`` and ``benchmark.png``, and print a table.

    Raises:
        ValueError: a variant could not be timed; everything else is written.
    """
    path = Path(config["paths"]["run_dir"], "benchmark.json")
    result = benchmark.run(config, lambda result: print("results so far:", write_json(result, path)))
    print(benchmark.format(result), write_json(result, path), sep="\n")
    if draw := getattr(benchmark, "draw", None):
        draw(result, path.with_suffix(".png"))
        print(path.with_suffix(".png"))
    if failed := result.get("errors"):
        raise ValueError(f"{', '.join(failed)} could not be timed, see above; the other variants were")


@hydra.main(version_base="1.3", config_path=CONF_DIR, config_name="benchmark")
def main(cfg: DictConfig) -> None:
    """Run the configured benchmark."""
    config = check(cfg, "benchmark")
    from hydra.utils import instantiate

    quiet_libraries()
    run(config, instantiate(config["benchmark"]))


if __name__ == "__main__":
    run_command(main)
