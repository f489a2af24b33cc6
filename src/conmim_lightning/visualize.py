"""Draw the predictions of a segmenter or detector: ``python -m conmim_lightning.visualize checkpoint=runs/...``.

By default, draw images of the run's test split beside their annotations; with ``images=/my/images``, of any folder.
"""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from conmim_lightning.config.check import CONF_DIR
from conmim_lightning.evaluate import run as evaluate
from conmim_lightning.runtime.launch import own_job, run_command
from conmim_lightning.runtime.results import print_existing
from conmim_lightning.runtime.trust import recorded_reports


def run(cfg: DictConfig) -> Path:
    """Draw the images and return their folder.

    Raises:
        ValueError: a fault of the configuration, the checkpoint or the data, or a task without drawings.
    """
    from conmim_lightning.weights.checkpoint import read_checkpoint

    recorded = read_checkpoint(cfg.checkpoint).get("run", {}).get("config", {})
    if not any("predictions" in node for node in recorded_reports(recorded).values()):
        task = recorded.get("task", {}).get("_target_", "an unknown task").rsplit(".", 1)[-1]
        raise ValueError(
            f"checkpoint {cfg.checkpoint!r} is of {task}; only segmentation and detection are drawn (see report.png of "
            "pre-training and confusion.png of classification, in the run's folder)"
        )
    evaluate(cfg)
    return Path(cfg.paths.run_dir, "pictures")


@hydra.main(version_base="1.3", config_path=CONF_DIR, config_name="visualize")
def main(cfg: DictConfig) -> None:
    """Draw, and print the path of the drawings."""
    with own_job():
        folder = run(cfg)
    print_existing(sorted(folder.glob("*.png")))


if __name__ == "__main__":
    run_command(main)
