import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir

from conmim_lightning.benchmark import measure
from conmim_lightning.config import CONF_DIR, check
from conmim_lightning.resolvers import register_resolvers


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "told"), [("+task.temprature=1", "temprature"), ("benchmark.precisions=[16-mixed]", "'16-mixed'")]
)
def test_mistakes_end_with_a_sentence(tmp_path, override, told):
    done = subprocess.run(
        [sys.executable, "-m", "conmim_lightning.benchmark", override],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
