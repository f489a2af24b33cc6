import json
from pathlib import Path

from conftest import tiny_overrides
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from conmim_lightning.benchmark import run
from conmim_lightning.config.check import CONF_DIR, check
from conmim_lightning.config.resolvers import register_resolvers
from conmim_lightning.profiling.data.scaling import synthetic_names


def test_the_scaling_benchmark_at_small_scale(tmp_path: Path, scenes_root: Path, capsys):
    register_resolvers()
    small = [item for item in tiny_overrides(scenes_root) if not item.startswith("data")]
    overrides = ["benchmark=scaling", f"paths.run_dir={tmp_path}/run", f"paths.data_dir={tmp_path}", *small]
    overrides += ["benchmark.names=[1000]", "benchmark.orders=[1000,2000000]", "benchmark.files=300"]
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        config = check(compose("benchmark", [*overrides, "benchmark.batch_size=8"]), "benchmark")
    run(config, instantiate(config["benchmark"]))
    result = json.loads((tmp_path / "run" / "benchmark.json").read_text())
    assert 19 + 8 + 4 <= result["index"]["1000"]["bytes per image"] < 32
    assert result["index"]["1000"]["bytes to a worker"] < 1000
    assert "order of   2,000,000" in capsys.readouterr().out


def test_synthetic_names():
    names = synthetic_names(1_000_002)
    assert (names[0], names[1_000_001]) == (b"00000/000000000.jpg", b"00100/001000001.jpg")
    assert len(names) == 1_000_002
