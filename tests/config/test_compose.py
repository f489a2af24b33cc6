import pytest
from hydra.errors import ConfigCompositionException

from conmim_lightning import configure


def test_a_configuration_has_the_overrides(tmp_path):
    cfg = configure("train", "experiment=quickstart", "loss.temperature=0.2", f"paths.run_dir={tmp_path}")
    assert (cfg.loss.temperature, cfg.data.batch_size, cfg.paths.run_dir) == (0.2, 128, str(tmp_path))
    assert configure("export", "checkpoint=a", "output=b").format


def test_mistakes():
    with pytest.raises(ConfigCompositionException, match="temprature"):
        configure("train", "loss.temprature=1")
