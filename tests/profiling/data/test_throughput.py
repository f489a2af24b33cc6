import json
import multiprocessing
import os
from pathlib import Path

import pytest
from conftest import tiny_overrides
from hydra.utils import instantiate
from profiling_config import composed_config

from conmim_lightning.benchmark import run
from conmim_lightning.profiling.data.throughput import loader_seconds, unique_memory


@pytest.mark.slow
def test_the_data_benchmark_at_small_scale(tmp_path: Path, scenes_root: Path, capsys):
    small = [item for item in tiny_overrides(scenes_root) if not item.startswith("data")]
    overrides = ["benchmark=data", f"paths.run_dir={tmp_path}/run", f"paths.data_dir={tmp_path}", *small]
    overrides += ["benchmark.count=48", "benchmark.rounds=1", "benchmark.batch_size=8"]
    config = composed_config("benchmark", *overrides, "benchmark.num_workers=[0,1]")
    run(config, instantiate(config["benchmark"]))
    result = json.loads((tmp_path / "run" / "benchmark.json").read_text())
    assert set(result["per_core"]) == {"folder", "manifest", "shards", "stream", "official pipeline"}
    ours, official = result["bytes_per_image"]
    assert ours < official / 4
    assert "times the rate of the official pipeline" in capsys.readouterr().out


def test_groups_of_batches_are_timed_over_several_epochs():
    seen = []

    class Loader:
        def __iter__(self):
            for batch in range(3):
                seen.append(batch)
                yield batch

    durations = loader_seconds(Loader(), warmup=2, groups=3, group=2)
    assert len(durations) == 3
    assert seen == [0, 1, 2, 0, 1, 2, 0, 1]


def test_memory_of_this_process_and_of_one_that_has_ended():
    assert unique_memory(os.getpid()) > 1
    process = multiprocessing.get_context("fork").Process(target=int)
    process.start()
    process.join()
    assert unique_memory(process.pid) != unique_memory(process.pid), "NaN"
