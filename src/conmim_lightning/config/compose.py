"""Composition of a command's configuration in a program, such as a notebook."""

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from conmim_lightning.config.check import CONF_DIR
from conmim_lightning.config.resolvers import register_resolvers


def configure(command: str, *overrides: str) -> DictConfig:
    """Return the configuration of a command, for its ``run``.

    ``train.run(configure("train", "experiment=quickstart"))`` is ``conmim train experiment=quickstart``.

    Args:
        command: name of the command, such as "train".
        *overrides: words as on the command line; ``paths.run_dir=`` is needed by commands that write to a run's folder.
    """
    register_resolvers()
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        return compose(command, list(overrides))
