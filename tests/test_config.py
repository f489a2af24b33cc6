import json
from pathlib import Path

import pytest
from conftest import tiny_dense, tiny_labelled
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from conmim_lightning.config import CONF_DIR, ConfigError, check
from conmim_lightning.resolvers import precision, without_credential
from conmim_lightning.train import run

EXPERIMENTS = sorted(path.stem for path in (Path(CONF_DIR) / "experiment").glob("*.yaml"))
OPTIONS = {
    group: sorted(path.stem for path in (Path(CONF_DIR) / group).glob("*.yaml"))
    for group in ("masking", "perturbation", "backbone", "logger", "trainer", "debug")
}
OPTIONS["backbone"] = [name for name in OPTIONS["backbone"] if not name.endswith("_classifier") and name != "timm"]


PRETRAINING = [name for name in EXPERIMENTS if name == "quickstart" or name.endswith("_pretrain")]
DENSE = [name for name in EXPERIMENTS if any(kind in name for kind in ("ade20k", "coco", "segmentation", "detection"))]
DOWNSTREAM = sorted(set(EXPERIMENTS) - set(PRETRAINING) - set(DENSE))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_passes_the_check(composed, scenes_root, experiment):
    scratch = [] if experiment in PRETRAINING or experiment.endswith("_from_scratch") else ["backbone.weights=x"]
    plain = check(composed(f"experiment={experiment}", f"data.root={scenes_root}/folders", *scratch))
    assert ("temperature" in plain["task"]) == (experiment in PRETRAINING)


@pytest.mark.parametrize("experiment", PRETRAINING)
def test_every_pretraining_takes_two_steps_on_made_data(composed, tiny, experiment):
    trainer = run(composed(f"experiment={experiment}", *tiny, "debug=two_steps"))
    assert trainer.global_step == 2


@pytest.mark.parametrize("experiment", DOWNSTREAM)
def test_every_other_experiment_runs_on_made_data(composed, scenes_root, tmp_path, experiment):
    few = ["task.probes.knn.num_neighbors=[1,5]"] if "knn" in experiment or "frozen" in experiment else []
    trainer = run(composed(f"experiment={experiment}", *tiny_labelled(scenes_root), *few, "debug=two_steps"))
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert any(name.startswith("test/") and name.endswith("top1") for name in figures)
    assert trainer.global_step == (0 if few else 2)
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
    assert (tmp_path / "run" / "confusion.png").is_file()


@pytest.mark.parametrize("experiment", DENSE)
def test_every_dense_experiment_runs_on_made_data(composed, scenes_root, tmp_path, experiment):
    kind = "coco" if "coco" in experiment or "detection" in experiment else "segmentation"
    trainer = run(composed(f"experiment={experiment}", *tiny_dense(scenes_root, kind), "debug=two_steps"))
    figures = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert ("test/mask_ap" if kind == "coco" else "test/miou") in figures
    assert trainer.global_step == 2
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
    assert list((tmp_path / "run" / "pictures").iterdir())
    assert (tmp_path / "run" / "per_class.tsv").is_file()


@pytest.mark.parametrize(
    ("kind", "choice"),
    [
        ("segmentation", ["task/head=linear"]),
        ("segmentation", ["task/head=dpt", "task.model.head.intermediate=[8,8,8,8]", "task.model.head.channels=16"]),
        ("segmentation", ["task.model.global_blocks=[1,3]", "task.model.checkpointing=true"]),
        ("segmentation", ["task.inference.stride=null", "task.inference.scales=[0.5,1.0]", "task.inference.flip=true"]),
        ("segmentation", ["callbacks=segmentation_ema", "data.images.transform.photometric=null"]),
        ("segmentation", ["task.model.head.norm=group", "data.batch_size=1"]),
        ("coco", ["task/pyramid=benchmark", "task.model.norm=batch"]),
        ("coco", ["data.source.masks=false", "callbacks=detection_ema"]),
        ("coco", ["schedule.shape=multistep", "task.model.checkpointing=true", "task.model.global_blocks=null"]),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_every_documented_choice_of_dense_tasks_takes_two_steps(composed, scenes_root, kind, choice):
    task = "detection" if kind == "coco" else "segmentation"
    small = tiny_dense(scenes_root, kind)
    if "head=linear" in choice[0]:
        small = [item for item in small if "head.channels" not in item]
    trainer = run(
        composed(f"experiment=quickstart_{task}_from_scratch", *choice[:1], *small, *choice[1:], "debug=two_steps")
    )
    assert trainer.global_step == 2


@pytest.mark.parametrize("kind", ["segmentation", "coco"])
def test_models_of_timms_serve_dense_tasks(composed, scenes_root, kind):
    """With absolute positions and a class token; what timm's models do not say, a user does."""
    own = ("backbone.patch", "backbone.embed", "backbone.depth", "backbone.num_heads")
    small = [item for item in tiny_dense(scenes_root, kind) if not item.startswith(own)]
    named = ["backbone=timm", "backbone.name=vit_tiny_patch16_224"]
    read = ["task.model.global_blocks=[2,5,8,11]", "task.model.read=[11]"]
    read = read if kind == "coco" else ["task.model.read=[3,5,7,11]", "task.inference.stride=48"]
    trainer = run(composed(f"experiment=vit_b_{'coco' if kind == 'coco' else 'ade20k'}", *named, *small, *read,
                           "debug=two_steps"))  # fmt: skip
    assert trainer.global_step == 2


def test_recipe_of_segmentation_is_beits(composed, scenes_root):
    plain = check(composed("experiment=vit_b_ade20k_from_scratch", f"data.root={scenes_root}/ade20k"))
    assert (plain["optimizer"]["lr"], plain["optimizer"]["weight_decay"]) == (7e-4, 0.05)
    assert plain["optimizer"]["betas"] == [0.9, 0.999]
    assert (plain["schedule"]["steps"], plain["schedule"]["warmup_steps"], plain["schedule"]["shape"]) == (
        160000,
        1500,
        "poly",
    )
    assert (plain["data"]["size"], plain["data"]["num_classes"], plain["data"]["batch_size"]) == (512, 150, 2)
    task = plain["task"]
    assert (task["layer_decay"], task["auxiliary_weight"], task["model"]["read"]) == (0.65, 0.4, [3, 5, 7, 11])
    assert (task["inference"]["stride"], task["inference"]["size"]) == (341, 512)
    assert plain["backbone"]["drop_path_rate"] == 0.1
    large = check(composed("experiment=vit_l_ade20k_from_scratch", f"data.root={scenes_root}/ade20k"))
    assert (large["task"]["model"]["read"], large["backbone"]["drop_path_rate"]) == ([7, 11, 15, 23], 0.2)


def test_recipe_of_detection_is_mimdets(composed, scenes_root):
    plain = check(composed("experiment=vit_b_coco_from_scratch", f"data.root={scenes_root}/coco"))
    assert (plain["optimizer"]["lr"], plain["optimizer"]["weight_decay"]) == (1.6e-4, 0.2)
    assert {key: plain["schedule"][key] for key in ("epochs", "warmup_epochs", "min_lr", "shape")} == {
        "epochs": 25, "warmup_epochs": 0.25, "min_lr": 0.0, "shape": "cosine",
    }  # fmt: skip
    assert (plain["data"]["size"], plain["data"]["images"]["transform"]["scale"]) == (1024, [0.1, 2.0])
    model = plain["task"]["model"]
    assert (model["global_blocks"], model["read"], model["proposals"]) == ([2, 5, 8, 11], [11], 1000)
    assert model["anchors"] == [32, 64, 128, 256, 512]
    large = check(composed("experiment=vit_l_coco_from_scratch", f"data.root={scenes_root}/coco"))
    assert large["task"]["model"]["global_blocks"] == [5, 11, 17, 23]


@pytest.mark.parametrize("experiment", [name for name in EXPERIMENTS if name.endswith("_from_scratch")])
def test_twins_differ_in_the_weights_alone(composed, scenes_root, experiment):
    twins = [
        check(composed(f"experiment={name}", f"data.root={scenes_root}/folders", f"backbone.weights={weights}"))
        for name, weights in ((experiment, "null"), (experiment.removesuffix("_from_scratch"), "x"))
    ]
    for plain in twins:
        within = plain["task"]["model"]
        plain["backbone"]["weights"] = within.get("backbone", within)["weights"] = None
    assert twins[0] == twins[1]


def test_weights_must_be_named(composed, scenes_root):
    with pytest.raises(ConfigError, match=r"backbone.weights: missing"):
        check(composed("experiment=vit_b_finetune", f"data.root={scenes_root}/folders"))


def test_recipe_of_fine_tuning_is_the_published_one(composed, scenes_root):
    plain = check(composed("experiment=vit_b_finetune_from_scratch", f"data.root={scenes_root}/folders"))
    assert plain["optimizer"]["lr"] == 4e-3
    assert plain["optimizer"]["betas"] == [0.9, 0.999]
    assert plain["optimizer"]["weight_decay"] == 0.05
    assert {key: plain["schedule"][key] for key in ("epochs", "warmup_epochs", "min_lr", "clip_norm")} == {
        "epochs": 100, "warmup_epochs": 20, "min_lr": 1e-6, "clip_norm": None,
    }  # fmt: skip
    task = plain["task"]
    assert (task["layer_decay"], task["label_smoothing"]) == (0.65, 0.1)
    assert (task["mixup"]["mixup_alpha"], task["mixup"]["cutmix_alpha"]) == (0.8, 1.0)
    assert (task["erasing"]["probability"], task["erasing"]["mode"]) == (0.25, "pixel")
    assert plain["data"]["train_transform"]["auto_augment"] == "rand-m9-mstd0.5-inc1"
    assert (plain["data"]["evaluation_transform"]["resize"], plain["data"]["evaluation_transform"]["size"]) == (
        256,
        224,
    )
    assert (plain["backbone"]["drop_path_rate"], plain["backbone"]["head_scale"]) == (0.1, 0.001)
    assert (plain["backbone"]["use_rel_pos_bias"], plain["backbone"]["use_shared_rel_pos_bias"]) == (True, False)
    large = check(composed("experiment=vit_b_finetune_384_from_scratch", f"data.root={scenes_root}/folders"))
    assert (large["data"]["evaluation_transform"]["resize"], large["backbone"]["img_size"]) == (384, 384)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_opens_with_its_recipe_card(experiment):
    text = (Path(CONF_DIR) / "experiment" / f"{experiment}.yaml").read_text()
    for word in ("python -m conmim_lightning.train", "# Sources", "# Expected", "# Hardware", "# Batch"):
        assert word in text


@pytest.mark.parametrize(("group", "option"), [(group, name) for group, names in OPTIONS.items() for name in names])
def test_every_option_passes_the_check(composed, group, option):
    changes = ["backbone.img_size=224"] if group == "masking" else []
    check(composed(f"{group}={option}", "data.root=.", *changes))


@pytest.mark.parametrize(
    ("overrides"),
    [
        ["masking=block", "masking.num_hidden=7", "masking.min_block=2"],
        ["masking=uniform"],
        ["perturbation=both_strong"],
        ["perturbation=switched"],
        ["task.dictionary=device", "task.similarity_filter=0.9"],
        ["backbone.in_chans=1", "data.mean=[0.5]", "data.std=[0.5]"],
        ["backbone.in_chans=4", "data.mean=[0.5,0.5,0.5,0.5]", "data.std=[0.5,0.5,0.5,0.5]"],
        ["schedule.accumulate=2", "schedule.lr_scaling=linear"],
        ["task.on_non_finite=skip", "trainer.precision=bf16-mixed"],
        ["task.model.attention=fused", "task.model.checkpointing=true"],
        ["task.model.projected=needed", "masking=block", "masking.num_hidden=7", "masking.min_block=2"],
        ["logger=tensorboard", "~logger.csv"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_every_documented_choice_takes_two_steps(composed, tiny, overrides):
    trainer = run(composed("experiment=quickstart", *tiny, "debug=two_steps", *overrides))
    assert trainer.global_step == 2


@pytest.mark.parametrize("family", ["absolute", "rotary"])
def test_other_families_take_two_steps(composed, tiny, family):
    trainer = run(
        composed(
            "experiment=vit_b_pretrain", f"backbone=vit_b_{family}", *tiny, "debug=two_steps", "task.model.locality=0"
        )
    )
    assert trainer.global_step == 2


def test_recipe_of_the_large_model_is_the_published_one(composed):
    plain = check(composed("experiment=vit_l_pretrain", "data.root=."))
    assert plain["optimizer"]["lr"] == 7.5e-4
    assert plain["optimizer"]["betas"] == [0.9, 0.98]
    assert plain["optimizer"]["weight_decay"] == 0.05
    assert plain["schedule"]["epochs"] == 1600
    assert plain["schedule"]["clip_norm"] == 1.0
    assert plain["backbone"]["init_values"] == 1e-5
    assert plain["backbone"]["drop_path_rate"] == 0
    assert plain["masking"] == {
        "_target_": "conmim_lightning.masking.random_units.RandomUnitMasking",
        "grid_size": 14,
        "unit_size": 2,
        "ratio": 0.75,
    }


MISTAKES = {
    "data.root is missing": ([], r"data.root: missing"),
    "misspelt key": (["data.root=.", "+task.temprature=0.2"], r"task.temprature: .* takes no such argument; it takes"),
    "misspelt key of a partial": (["data.root=.", "+optimizer.weight_dcay=0"], "optimizer.weight_dcay"),
    "misspelt plain key": (["data.root=.", "+schedule.warmup=3"], "schedule.warmup: unknown; schedule has epochs"),
    "unknown top-level key": (["data.root=.", "+learning_rate=3"], "learning_rate: unknown; top-level keys are"),
    "target that does not exist": (["data.root=.", "optimizer._target_=torch.optim.AdamX"], "torch.optim.AdamX"),
    "module that does not exist": (["data.root=.", "optimizer._target_=torhc.optim.AdamW"], "torhc"),
    "size that does not divide": (
        ["data.root=.", "backbone.img_size=225"],
        "image size by patch size: 225 is not divisible by 16",
    ),
    "argument taken away": (["data.root=.", "~masking.ratio"], "masking.ratio: missing; .*RandomUnitMasking needs it"),
    "misspelt callback": (["data.root=.", "+callbacks.prob.every_n_epochs=3"], "callbacks.prob: names no _target_"),
    "misspelt logger": (["data.root=.", "+logger.csvv.save_dir=x"], "logger.csvv: names no _target_"),
    "callback set to null": (["data.root=.", "callbacks.probe=null"], "leave one out write ~callbacks.probe"),
    "group without a target": (["data.root=.", "~masking._target_"], "masking._target_: missing"),
    "no path": (["data.root=.", "paths.run_dir=true"], "paths.run_dir: must be a path, got True"),
    "no clipping by zero": (["data.root=.", "schedule.clip_norm=0"], "schedule.clip_norm: must be above 0, or null"),
    "negative clipping": (["data.root=.", "schedule.clip_norm=-1"], "clip_norm: must be above 0, or null, got -1"),
    "a fused step under a scaler": (
        ["data.root=.", "trainer.precision=16-mixed"],
        "trainer.precision: 16-mixed needs optimizer.fused=false",
    ),
    "half a batch accumulated": (["data.root=.", "schedule.accumulate=0.5"], "whole number of at least 1, got 0.5"),
    "dangling interpolation": (["data.root=.", "data.seed=${sede}"], "data.seed: .*sede"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_told(composed, mistake):
    overrides, told = MISTAKES[mistake]
    with pytest.raises(ConfigError, match=told):
        check(composed(*overrides))


@pytest.mark.parametrize(
    "overrides", [["trainer.precision=16-mixed", "optimizer.fused=false"], ["trainer.precision=bf16-mixed"]]
)
def test_a_scaler_may_have_an_optimizer_that_is_not_fused(composed, overrides):
    assert check(composed("data.root=.", *overrides))["trainer"]["precision"] == overrides[0].split("=")[1]


def test_all_faults_are_told_at_once(composed):
    faults = ("data.root", "task.temprature", "trainer.max_epoch", "masking.ratoi", "schedule.accumulate", "lr_rate")
    overrides = (
        "+task.temprature=0.2",
        "+trainer.max_epoch=3",
        "+masking.ratoi=1",
        "schedule.accumulate=0",
        "+lr_rate=1",
    )
    with pytest.raises(ConfigError, match=r"^6 fault") as caught:
        check(composed(*overrides))
    assert all(name in str(caught.value) for name in faults)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["masking.ratio=1.5"], "between 0 and 1, got 1.5"),
        (["masking.unit_size=3"], "does not divide into units of 3"),
        (["task.temperature=0"], "temperature must be a positive number, got 0"),
        (["data.batch_size=1"], "got 1"),
        (["perturbation.teacher=loud"], "loud"),
        (["data.crop.scale=[0.5,2]"], "crop scale"),
        (["backbone.num_heads=3"], "embed_dim 16 does not divide into 3 heads"),
        (["resume=/nowhere/last.ckpt"], "/nowhere/last.ckpt"),
        (["schedule.lr_scaling=square"], "square"),
        (["optimizer.lr=-1"], "Invalid learning rate: -1"),
        (["callbacks.broken_images.max_share=3"], "got 3"),
    ],
)
def test_bad_values_end_before_training(composed, tiny, overrides, told):
    from hydra.errors import HydraException

    with pytest.raises((ValueError, OSError, HydraException), match=told):
        run(composed("experiment=quickstart", *tiny, *overrides))


def test_unknown_experiment(composed):
    with pytest.raises(ConfigCompositionException, match=r"(?s)vit_x.*quickstart"):
        composed("experiment=vit_x")


def test_interpolations_are_resolved(composed):
    plain = check(composed("data.root=.", "backbone.img_size=96"))
    assert plain["data"]["crop"]["size"] == 96
    assert plain["masking"]["grid_size"] == 6
    assert "${" not in OmegaConf.to_yaml(plain)


def test_the_precision_is_that_of_the_device(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: False)
    assert precision("auto") == "bf16-mixed"
    assert precision("cpu") == "32-true"


def test_credentials(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SOME_KEY", raising=False)
    assert without_credential("SOME_KEY", "example.org")
    (tmp_path / ".netrc").write_text("machine example.org login user password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert not without_credential("SOME_KEY", "example.org")
    assert without_credential("SOME_KEY", "example.com")
    monkeypatch.setenv("SOME_KEY", "x")
    assert not without_credential("SOME_KEY", "example.com")
