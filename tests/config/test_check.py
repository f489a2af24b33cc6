import pytest
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from conmim_lightning.config.check import ConfigError, check
from conmim_lightning.train import run


def test_weights_must_be_named(composed, scenes_root):
    with pytest.raises(ConfigError, match=r"backbone.weights: missing"):
        check(composed("experiment=vit_b_finetune", f"data.root={scenes_root}/folders"))


MISTAKES = {
    "data.root is missing": ([], r"data.root: missing"),
    "misspelt key": (
        ["data.root=.", "+task.temprature=0.2"],
        r"task.temprature: .* no such argument; did you mean",
    ),
    "misspelt key of a partial": (["data.root=.", "+optimizer.weight_dcay=0"], "optimizer.weight_dcay"),
    "misspelt key of the schedule": (
        ["data.root=.", "+schedule.warmup=3"],
        "schedule.warmup: .* did you mean warmup_\\w+",
    ),
    "unknown top-level key": (["data.root=.", "+learning_rate=3"], "learning_rate: unknown; .*allowed are seed"),
    "key of another command": (["data.root=.", "+pictures=3"], "pictures: unknown"),
    "group of another command": (["data.root=.", "+plan.images=3"], "plan: unknown"),
    "misspelt key of a checkpoint": (
        ["data.root=.", "+callbacks.checkpoint.every_n_epoch=3"],
        "every_n_epoch: .* no such argument; did you mean every_n_epochs",
    ),
    "target that does not exist": (["data.root=.", "optimizer._target_=torch.optim.AdamX"], "torch.optim.AdamX"),
    "module that does not exist": (["data.root=.", "optimizer._target_=torhc.optim.AdamW"], "torhc"),
    "size that does not divide": (
        ["data.root=.", "backbone.img_size=225"],
        "backbone.img_size by backbone.patch_size: 225 is not divisible by 16",
    ),
    "argument taken away": (
        ["experiment=vit_b_finetune", "data.root=.", "backbone.weights=null", "~task.normalize"],
        "task.normalize: missing; .*ClassificationTask needs it",
    ),
    "misspelt callback": (["data.root=.", "+callbacks.prob.every_n_epochs=3"], "callbacks.prob: has no _target_"),
    "misspelt logger": (["data.root=.", "+logger.csvv.save_dir=x"], "logger.csvv: has no _target_"),
    "callback set to null": (["data.root=.", "callbacks.probe=null"], "to remove it, write ~callbacks.probe"),
    "group without a target": (["data.root=.", "~masking._target_"], "masking._target_: missing"),
    "no path": (["data.root=.", "paths.run_dir=true"], "paths.run_dir: must be a path, got True"),
    "no clipping by zero": (
        ["data.root=.", "schedule.max_grad_norm=0"],
        "schedule.max_grad_norm must be above 0, or null",
    ),
    "negative clipping": (
        ["data.root=.", "schedule.max_grad_norm=-1"],
        "max_grad_norm must be above 0, or null .*; got -1",
    ),
    "a fused step under a scaler": (
        ["data.root=.", "trainer.precision=16-mixed"],
        "trainer.precision: 16-mixed needs optimizer.fused=false",
    ),
    "half a batch accumulated": (
        ["data.root=.", "schedule.accumulate_grad_batches=0.5"],
        "schedule.accumulate_grad_batches: a whole number is needed, got 0.5",
    ),
    "dangling interpolation": (["data.root=.", "data.seed=${sede}"], "data.seed: .*sede"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_reported(composed, mistake):
    overrides, message = MISTAKES[mistake]
    with pytest.raises(ConfigError, match=message):
        check(composed(*overrides))


@pytest.mark.parametrize(
    "overrides", [["trainer.precision=16-mixed", "optimizer.fused=false"], ["trainer.precision=bf16-mixed"]]
)
def test_a_scaler_may_have_an_optimizer_that_is_not_fused(composed, overrides):
    assert check(composed("data.root=.", *overrides))["trainer"]["precision"] == overrides[0].split("=")[1]


def test_all_faults_are_reported_at_once(composed):
    faults = (
        "data.root",
        "task.temprature",
        "trainer.max_epoch",
        "masking.ratoi",
        "schedule.accumulate_grad_batches",
        "lr_rate",
    )
    overrides = (
        "+task.temprature=0.2",
        "+trainer.max_epoch=3",
        "+masking.ratoi=1",
        "schedule.accumulate_grad_batches=0",
        "+lr_rate=1",
    )
    with pytest.raises(ConfigError, match=r"^6 fault") as caught:
        check(composed(*overrides))
    assert all(name in str(caught.value) for name in faults)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["masking.ratio=1.5"], "between 0 and 1, got 1.5"),
        (["masking.unit_size=3"], "unit_size=3 does not divide a grid of"),
        (["loss.temperature=0"], "temperature must be a positive number, got 0"),
        (["data.batch_size=1"], "got 1"),
        (["perturbation.teacher=loud"], "loud"),
        (["data.crop.scale=[0.5,2]"], "crop scale"),
        (["backbone.num_heads=3"], "embed_dim 16 does not divide into num_heads=3 heads"),
        (["resume=/nowhere/last.ckpt"], "/nowhere/last.ckpt"),
        (["schedule.lr_scaling=square"], "square"),
        (["optimizer.lr=-1"], "optimizer.lr: must be at least 0, got -1"),
        (["callbacks.broken_images.max_fraction=3"], "got 3"),
    ],
)
def test_bad_values_end_before_training(composed, tiny, overrides, message):
    from hydra.errors import HydraException

    with pytest.raises((ValueError, OSError, HydraException), match=message):
        run(composed("experiment=quickstart", *tiny, *overrides))


def test_unknown_experiment(composed):
    with pytest.raises(ConfigCompositionException, match=r"(?s)vit_x.*quickstart"):
        composed("experiment=vit_x")


def test_interpolations_are_resolved(composed):
    config = check(composed("data.root=.", "backbone.img_size=96"))
    assert config["data"]["crop"]["size"] == 96
    assert config["masking"]["grid_size"] == 6
    assert "${" not in OmegaConf.to_yaml(config)


def test_as_many_channels_are_jittered_as_there_are(composed, tiny):
    with pytest.raises(ValueError, match=r"perturbation.per_channel: 4 channels .* as the images have 3"):
        check(composed("experiment=quickstart", *tiny, "perturbation.per_channel=4"))
    check(composed("experiment=quickstart", *tiny, "perturbation.per_channel=3", "trainer.max_time='00:01:00:00'"))
