import pytest
import torch
from profiling_config import benchmark_config

from conmim_lightning.profiling.build import build_runner
from conmim_lightning.profiling.step.train_step import PHASES


@pytest.fixture
def config(tiny, tmp_path):
    return benchmark_config(tiny, tmp_path)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("variant", ["reference", "ours"])
def test_steps_are_timed_and_train(config, variant, precision, tmp_path):
    runner = build_runner(config, variant, precision, 8)
    before = [parameter.clone() for parameter in runner.model.parameters()]
    result = runner.steps(3)
    assert len(result["step"]) == len(result["perturbation"]) == 3
    assert min(result["step"]) > 0
    assert result["loss"][2] < result["loss"][0], "one batch is soon known by heart"
    assert any(not torch.equal(a, b) for a, b in zip(before, runner.model.parameters(), strict=True))
    held = runner.memory_by_kind()
    assert held["weights"] > held["gradients"] > 0
    assert 2 * held["gradients"] <= held["optimizer"] < 2.01 * held["gradients"]
    assert 0 < runner.peak() < 2**32
    saved = runner.time_checkpoint(str(tmp_path))
    assert 0 < saved["bytes"] - held["weights"] - held["optimizer"] < 2**18, "names and such"
    assert not list(tmp_path.iterdir())
    if variant == "ours":
        assert list(runner.phases(2)) == list(PHASES)


def test_both_variants_train_alike(config):
    """The reference has the same parameter groups, learning rates and clipping, not only the same loss for one step."""
    config["task"]["optimizer"] = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1, "weight_decay": 0.05}
    models, losses = [], []
    for variant in ("reference", "ours"):
        runner = build_runner(config, variant, "32-true", 8)
        losses.append(runner.steps(3)["loss"])
        models.append(runner.model)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for ours, reference in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-6)


def test_a_loss_that_the_reference_lacks_is_refused(config):
    config["task"]["loss"] = {"_target_": "torch.nn.MSELoss"}
    with pytest.raises(ValueError, match=r"has no MSELoss; set benchmark.variants=\[ours\]"):
        build_runner(config, "reference", "32-true", 2)
