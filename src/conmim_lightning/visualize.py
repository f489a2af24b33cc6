"""Draw what a segmenter or a detector finds: ``python -m conmim_lightning.visualize checkpoint=runs/...``.

Of images of the run's own test part, beside the truth; or, with ``images=/my/images``, of any folder.
"""

import os
from pathlib import Path

import hydra
from omegaconf import DictConfig

from conmim_lightning.config import CONF_DIR
from conmim_lightning.evaluate import run as evaluate
from conmim_lightning.messages import told_plainly
from conmim_lightning.resolvers import register_resolvers
from conmim_lightning.train import as_launched_rank, own_job


def run(cfg: DictConfig) -> Path:
    """Draw the images and return their folder.

    Raises:
        ValueError: a fault of the configuration, the checkpoint or the data, or the run's task draws nothing.
    """
    from conmim_lightning.weights.checkpoint import read_checkpoint

    recorded = read_checkpoint(cfg.checkpoint).get("run", {}).get("config", {})
    if not any("predictions" in (node or {}) for node in recorded.get("callbacks", {}).values()):
        task = recorded.get("task", {}).get("_target_", "an unknown task").rsplit(".", 1)[-1]
        raise ValueError(
            f"checkpoint {cfg.checkpoint!r} is of {task}; drawn are answers of segmentation and detection (of "
            "pre-training look at report.png, of classification at confusion.png, in the run's folder)"
        )
    evaluate(cfg)
    return Path(cfg.paths.run_dir, "pictures")


@hydra.main(version_base="1.3", config_path=CONF_DIR, config_name="visualize")
def main(cfg: DictConfig) -> None:
    """Draw, and say where the pictures lie."""
    with own_job():
        folder = run(cfg)
    for path in sorted(folder.glob("*.png")):
        print(os.path.relpath(path))


if __name__ == "__main__":
    as_launched_rank()
    register_resolvers()
    with told_plainly():
        main()
