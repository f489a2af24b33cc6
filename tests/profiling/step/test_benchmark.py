import pytest
import torch
from hydra.utils import instantiate
from profiling_config import benchmark_config

from conmim_lightning.profiling.step.benchmark import StepBenchmark


@pytest.fixture
def config(tiny, tmp_path):
    return benchmark_config(tiny, tmp_path)


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_on_a_gpu_the_other_variants_continue_after_a_failure(config, monkeypatch, kind):
    def interleave(makers, *, warmup, steps):
        if any("ours" in name for name in makers):
            raise RuntimeError("CUDA out of memory\nmore of it")
        return {name: {"step": [1.0]} for name in makers}

    monkeypatch.setattr("conmim_lightning.profiling.step.benchmark.interleave", interleave)
    settings = {"variants": ["reference", "ours", "compiled"], "precisions": ["bf16-mixed"], "baseline": "a=1"}
    benchmark = instantiate(config["benchmark"] | settings)
    result, saved = {"variants": {}}, []
    if kind == "cpu":  # all are timed together, so that there is nothing to report of any
        with pytest.raises(RuntimeError, match="out of memory"):
            benchmark._time_variants(result, config, None, torch.device(kind), lambda result: None)
        return
    save = lambda result: saved.append(list(result["variants"]))  # noqa: E731
    benchmark._time_variants(result, config, config, torch.device(kind), save)
    assert list(result["variants"]) == ["reference bf16-mixed", "compiled bf16-mixed"]
    assert list(result["baseline"]["variants"]) == ["compiled bf16-mixed"], "the reference needs no repetition"
    assert saved[0] == ["reference bf16-mixed"], "written before the next is begun"
    assert result["errors"] == dict.fromkeys(("ours bf16-mixed", "baseline ours bf16-mixed"), "CUDA out of memory")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stages": ["all"]}, "step, attention, data, run, batch_sizes"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch_size": 1}, "batch_size must be at least 2, got 1"),
        ({"memory": 0}, "benchmark.memory must be at least 0.01 GiB, or null, got 0"),
        ({"variants": []}, "needs variants"),
        ({"precisions": ["64-true"]}, "64-true"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        StepBenchmark(photos={}, **settings)


def test_float16_needs_a_gpu(config):
    benchmark = StepBenchmark(photos={}, variants=["reference 16-mixed"])
    with pytest.raises(ValueError, match="on a GPU only"):
        benchmark.run(config, lambda result: None)
