"""Estimate a run before it starts: ``python -m conmim_lightning.plan experiment=vit_b_pretrain``.

Count parameters, FLOP and bytes, time a few steps on synthetic batches, and report hours, disk and the largest batch.
With ``data.root=/my/images``, count the images there. Nothing is trained. Only ``plan.json`` and the index of the
folder, which a later run uses, are written.
"""

import os
from pathlib import Path

import hydra
from omegaconf import DictConfig

from conmim_lightning.config.check import CONF_DIR, check
from conmim_lightning.runtime.errors import quiet_libraries
from conmim_lightning.runtime.launch import run_command
from conmim_lightning.runtime.results import write_json


@hydra.main(version_base="1.3", config_path=CONF_DIR, config_name="plan")
def main(cfg: DictConfig) -> None:
    """Print an estimate of the run that fits on one screen."""
    config = check(cfg, "plan")
    from hydra.utils import instantiate

    from conmim_lightning.profiling.build import check_pretraining
    from conmim_lightning.profiling.estimate_text import format_estimate

    quiet_libraries()
    estimate = instantiate(config["plan"])
    check_pretraining(config, "plan")
    os.makedirs(config["paths"]["run_dir"], exist_ok=True)
    result = estimate.run(config)
    print(format_estimate(result))
    print(write_json(result, Path(config["paths"]["run_dir"], "plan.json")))


if __name__ == "__main__":
    run_command(main)
