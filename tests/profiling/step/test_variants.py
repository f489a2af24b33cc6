import pytest
from profiling_config import benchmark_config

from conmim_lightning.profiling.step.variants import departures, interleave, last_of_ours, variant_pairs


def test_settings_that_the_reference_lacks_are_listed(tiny, tmp_path):
    assert departures(benchmark_config(tiny, tmp_path)) == []
    changes = ["loss.dictionary=device", "task.model.project=masked", "backbone.drop_path_rate=0.1"]
    assert departures(benchmark_config(tiny, tmp_path, *changes)) == changes


def test_a_variant_may_name_its_precision():
    precisions = ["32-true", "bf16-mixed"]
    assert variant_pairs(["reference 16-mixed", "ours"], precisions) == [
        ("reference", "16-mixed"),
        ("ours", "32-true"),
        ("ours", "bf16-mixed"),
    ]
    for variant in ("fast", "reference 8-bit"):
        with pytest.raises(ValueError, match="reference, ours, compiled and of 32-true"):
            variant_pairs([variant], precisions)


def test_the_last_of_ours_is_used_for_whole_runs():
    assert last_of_ours(["reference", "ours", "compiled"]) == "compiled"
    assert last_of_ours(["reference 16-mixed"]) == "ours"


def test_variants_take_turns():
    calls = []

    class Fake:
        def __init__(self, name):
            self.name = name

        def call(self, method, *arguments):
            calls.append((self.name, method, *arguments))
            if method == "steps":
                return {key: [1.0] * arguments[0] for key in ("step", "perturbation", "loss")}
            return 7 if method == "peak" else {"loss": 0.5}

        def close(self):
            calls.append((self.name, "close"))

    makers = {name: (lambda name=name: Fake(name)) for name in ("reference 32-true", "ours 32-true")}
    results = interleave(makers, warmup=2, steps=2)
    assert [call[0].split()[0] for call in calls if call[1:] == ("steps", 1)] == ["reference", "ours"] * 2
    assert results["ours 32-true"]["step"] == [1.0, 1.0], "the warm-up is not counted"
    assert results["reference 32-true"]["peak_bytes"] == 7
    assert ("phases" in results["ours 32-true"], "phases" in results["reference 32-true"]) == (True, False)
    assert calls.count(("ours 32-true", "close")) == 1
