import pytest
from PIL import Image

from conmim_lightning.profiling.plot import draw
from conmim_lightning.profiling.step.train_step import PHASES

VARIANT = {"step": [0.1, 0.2], "perturbation": [0.05] * 2, "peak_bytes": 2**30, "loss": [3.0, 2.0]}
RESULT = {
    "device": "a device", "torch": "2", "batch_size": 8, "flops_per_image": 10**9,
    "matmul_rates": {"32-true": 10**11}, "variants": {"reference 32-true": VARIANT, "ours 32-true": VARIANT},
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "panels"),
    [
        ({}, 1),
        ({"variants": {"ours 32-true": VARIANT | {"phases": dict.fromkeys(PHASES, 0.01)}}}, 2),
        ({"batch_sizes": {"32-true": [{"batch_size": 8} | VARIANT, {"batch_size": 16, "step": None}]}}, 2),
    ],
)
def test_one_panel_per_measurement(tmp_path, changes, panels):
    draw(RESULT | changes, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (panels * 660, 504)
