import pytest

from conmim_lightning.profiling.table import format_comparison, format_table, quartiles

VARIANT = {"step": [0.1, 0.2, 0.3], "perturbation": [0.05] * 3, "peak_bytes": 2**30, "loss": [3.0, 2.0, 1.0]}
RESULT = {
    "device": "a device", "torch": "2", "batch_size": 8, "flops_per_image": 10**9,
    "matmul_rates": {"bf16-mixed": 10**11, "16-mixed": 10**11},
    "variants": {"reference 16-mixed": VARIANT | {"step": [0.4] * 3}, "ours bf16-mixed": VARIANT},
    "data": {"rates": [90.0, 100.0, 110.0], "num_workers": 2, "precision": ""},
    "run": {
        "rates": [16.0] * 3, "waits": [0.25] * 3, "num_workers": 2, "precision": "bf16-mixed", "variant": "ours"
    },
    "batch_sizes": {
        "bf16-mixed": [{"batch_size": 8} | VARIANT, {"batch_size": 16, "step": None, "peak_bytes": None}]
    },
}  # fmt: skip


def _row(result, name):
    return next(line.split() for line in format_table(result).splitlines() if line.startswith(f"{name} "))[2:]


def test_rates_memory_and_losses_are_listed():
    lines = format_table(RESULT).splitlines()
    row = ["40.00", "32.00", "-", "53.33", "0.04", "40", "%", "32.00", "1.00"]
    assert _row(RESULT, "ours bf16-mixed") == row
    assert "ours bf16-mixed is 2.00 times reference 16-mixed" in lines
    assert any("data alone" in line and "100.00" in line for line in lines)
    assert any("waiting for data 25 % of the time" in line for line in lines)
    assert "end to end: 50 % of the rate of ours bf16-mixed on synthetic batches, perturbed" in lines
    assert lines[-1].split() == ["16", "out", "of", "memory"]


def test_ours_is_compared_with_the_reference_of_its_precision():
    reference = VARIANT | {"step": [0.4] * 3, "peak_bytes": 2**31, "loss": [3.0, 2.5, 1.25]}
    variants = RESULT["variants"] | {"reference bf16-mixed": reference}
    result = RESULT | {"variants": variants, "departures": ["loss.dictionary=device"]}
    row = ["40.00", "32.00", "-", "53.33", "2.00", "0.04", "40", "%", "32.00", "1.00", "0.50"]
    assert _row(result, "ours bf16-mixed") == row
    text = format_table(result)
    expected = "3.0000 to 1.0000, largest relative difference from reference bf16-mixed: 2.0e-01"
    assert f"loss of ours bf16-mixed: {expected}" in text
    assert "reference is the published method, without loss.dictionary=device" in text


def test_a_faster_result_is_a_ratio_to_the_baseline():
    faster = RESULT | {"variants": {"ours bf16-mixed": VARIANT | {"step": [0.1] * 3}}}
    assert "2.00 times the images per second, 1.00 times the memory" in format_comparison(faster, RESULT)


def test_attention_and_errors_are_listed():
    times = {"eager": {"no_gradient": 0.0015, "gradient": 0.004}, "sdpa": {"error": "no kernel"}}
    result = {"device": "a", "torch": "2", "batch_size": 2, "flops_per_image": 1, "matmul_rates": {}, "variants": {}}
    lines = format_table(result | {"errors": {"ours": "no"}, "attention": {"bf16-mixed": times}}).splitlines()
    assert "ours failed: no" in lines
    assert lines[-3] == "attention of one block in bf16-mixed, ms:"
    assert lines[-2].split() == ["eager", "1.50", "without", "gradient", "4.00", "with", "gradients"]
    assert lines[-1].split() == ["sdpa", "not", "available:", "no", "kernel"]


@pytest.mark.parametrize(("values", "expected"), [([2.0], (2, 2, 2)), ([1.0, 2.0, 3.0], (1.5, 2, 2.5))])
def test_quartiles(values, expected):
    assert quartiles(values) == expected
