import json
from pathlib import Path

from conftest import tiny_overrides
from hydra.utils import instantiate
from profiling_config import composed_config

from conmim_lightning.benchmark import run
from conmim_lightning.profiling.data.scaling import synthetic_names


def test_the_scaling_benchmark_at_small_scale(tmp_path: Path, scenes_root: Path, capsys):
    small = [item for item in tiny_overrides(scenes_root) if not item.startswith("data")]
    overrides = ["benchmark=scaling", f"paths.run_dir={tmp_path}/run", f"paths.data_dir={tmp_path}", *small]
    overrides += ["benchmark.names=[1000]", "benchmark.orders=[1000,2000000]", "benchmark.files=300"]
    config = composed_config("benchmark", *overrides, "benchmark.batch_size=8")
    run(config, instantiate(config["benchmark"]))
    result = json.loads((tmp_path / "run" / "benchmark.json").read_text())
    assert 19 + 8 + 4 <= result["index"]["1000"]["bytes per image"] < 32
    assert result["index"]["1000"]["bytes to a worker"] < 1000
    assert "order of   2,000,000" in capsys.readouterr().out


def test_synthetic_names():
    names = synthetic_names(1_000_002)
    assert (names[0], names[1_000_001]) == (b"00000/000000000.jpg", b"00100/001000001.jpg")
    assert len(names) == 1_000_002
