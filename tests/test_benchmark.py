import pytest
from hydra import compose, initialize_config_dir

from conmim_lightning.benchmark import measure
from conmim_lightning.config import CONF_DIR, check, register_resolvers


def test_the_step_is_timed(tiny, tmp_path):
    register_resolvers()
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        cfg = compose(
            "benchmark",
            ["experiment=quickstart", *tiny, f"paths.run_dir={tmp_path}", "benchmark.steps=2", "benchmark.warmup=1"],
        )
    for precision in ("32-true", "bf16-mixed"):
        found = measure(check(cfg), precision, compiled=False)
        assert found["images_per_second"] * found["seconds_per_step"] == pytest.approx(cfg.benchmark.batch_size)
        assert 0.01 < found["peak_gib"] < 100
