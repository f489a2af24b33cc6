"""Checked configurations of ``benchmark`` and ``plan``, for the tests of profiling."""

from hydra import compose, initialize_config_dir

from conmim_lightning.config.check import CONF_DIR, check
from conmim_lightning.config.resolvers import register_resolvers


def benchmark_config(tiny, tmp_path, *overrides):
    """A tiny quick start, to be benchmarked on the CPU."""
    own = ["experiment=quickstart", "trainer.accelerator=cpu", *tiny, f"paths.run_dir={tmp_path}", *overrides]
    return composed_config("benchmark", *own)


def plan_config(tmp_path, *overrides):
    """A run to be estimated."""
    return composed_config("plan", *overrides, f"paths.run_dir={tmp_path}")


def composed_config(command, *overrides):
    register_resolvers()
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        return check(compose(command, list(overrides)), command)
