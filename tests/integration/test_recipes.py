from pathlib import Path

import pytest

from conmim_lightning.config.check import CONF_DIR, check

EXPERIMENTS = sorted(path.stem for path in (Path(CONF_DIR) / "experiment").glob("*.yaml"))


OPTIONS = {
    group: sorted(path.stem for path in (Path(CONF_DIR) / group).glob("*.yaml"))
    for group in ("masking", "perturbation", "backbone", "logger", "trainer", "debug")
}
OPTIONS["backbone"].remove("timm")  # needs a name

PRETRAINING = [name for name in EXPERIMENTS if name == "quickstart" or name.endswith(("_pretrain", "_simmim"))]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_passes_the_check(composed, scenes_root, experiment):
    weights = [] if experiment in PRETRAINING else ["backbone.weights=x"]
    config = check(composed(f"experiment={experiment}", f"data.root={scenes_root}/folders", *weights))
    assert ("loss" in config["task"]) == (experiment in PRETRAINING)
    schedule, trainer = config.get("schedule") or {}, config["trainer"]
    if "fit" in config["stages"]:  # without either, Lightning would train 1,000 epochs
        assert (trainer["max_epochs"], trainer["max_steps"]) == (schedule["epochs"], schedule.get("steps", -1))


def test_a_schedule_in_steps_becomes_one_in_epochs(composed, scenes_root):
    longer = ["schedule.steps=null", "schedule.epochs=20", "schedule.warmup_steps=0"]
    common = ["experiment=cifar10_finetune", f"data.root={scenes_root}/folders", "backbone.weights=null"]
    trainer = check(composed(*common, *longer))["trainer"]
    assert (trainer["max_epochs"], trainer["max_steps"]) == (20, -1)


def test_recipe_of_segmentation_is_that_of_beit(composed, scenes_root):
    config = check(composed("experiment=vit_b_ade20k", f"data.root={scenes_root}/ade20k", "backbone.weights=null"))
    assert (config["optimizer"]["lr"], config["optimizer"]["weight_decay"]) == (7e-4, 0.05)
    assert config["optimizer"]["betas"] == [0.9, 0.999]
    assert (config["schedule"]["steps"], config["schedule"]["warmup_steps"], config["schedule"]["name"]) == (
        160000,
        1500,
        "poly",
    )
    assert (config["data"]["size"], config["data"]["num_classes"], config["data"]["batch_size"]) == (512, 150, 2)
    task = config["task"]
    assert (task["layer_decay"], task["auxiliary_weight"], task["model"]["out_indices"]) == (0.65, 0.4, [3, 5, 7, 11])
    assert (task["inference"]["stride"], task["inference"]["size"]) == (341, 512)
    assert config["backbone"]["drop_path_rate"] == 0.1
    large = check(composed("experiment=vit_l_ade20k", f"data.root={scenes_root}/ade20k", "backbone.weights=null"))
    assert (large["task"]["model"]["out_indices"], large["backbone"]["drop_path_rate"]) == ([7, 11, 15, 23], 0.2)


def test_recipe_of_detection_is_that_of_mimdet(composed, scenes_root):
    config = check(composed("experiment=vit_b_coco", f"data.root={scenes_root}/coco", "backbone.weights=null"))
    assert (config["optimizer"]["lr"], config["optimizer"]["weight_decay"]) == (1.6e-4, 0.2)
    assert {key: config["schedule"][key] for key in ("epochs", "warmup_epochs", "min_lr", "name")} == {
        "epochs": 25, "warmup_epochs": 0.25, "min_lr": 0.0, "name": "cosine",
    }  # fmt: skip
    assert (config["data"]["size"], config["data"]["dataset"]["transform"]["scale"]) == (1024, [0.1, 2.0])
    model = config["task"]["model"]
    assert (model["global_attn_blocks"], model["out_indices"], model["rpn_top_n"]) == ([2, 5, 8, 11], [11], 1000)
    assert model["anchor_sizes"] == [32, 64, 128, 256, 512]
    large = check(composed("experiment=vit_l_coco", f"data.root={scenes_root}/coco", "backbone.weights=null"))
    assert large["task"]["model"]["global_attn_blocks"] == [5, 11, 17, 23]


def test_pixel_regression_is_that_of_simmim(composed):
    config = check(composed("experiment=cifar10_simmim", "data.root=."))
    conmim = check(composed("experiment=cifar10_pretrain", "data.root=."))
    assert config["masking"] == {
        "_target_": "conmim_lightning.masking.random_units.RandomUnitMasking",
        "grid_size": 8,
        "unit_size": 2,
        "ratio": 0.6,
    }
    assert config["task"]["model"]["projector"]["patch_size"] == 4
    assert (config["perturbation"]["student"], config["perturbation"]["teacher"]) == ("weak", "weak")
    for same in ("backbone", "optimizer", "schedule", "seed"):
        assert config[same] == conmim[same]
    assert config["data"]["crop"] == conmim["data"]["crop"]


def test_recipe_of_fine_tuning_is_the_published_one(composed, scenes_root):
    config = check(composed("experiment=vit_b_finetune", f"data.root={scenes_root}/folders", "backbone.weights=null"))
    assert config["optimizer"]["lr"] == 4e-3
    assert config["optimizer"]["betas"] == [0.9, 0.999]
    assert config["optimizer"]["weight_decay"] == 0.05
    assert {key: config["schedule"][key] for key in ("epochs", "warmup_epochs", "min_lr", "max_grad_norm")} == {
        "epochs": 100, "warmup_epochs": 20, "min_lr": 1e-6, "max_grad_norm": None,
    }  # fmt: skip
    task = config["task"]
    assert (task["layer_decay"], task["label_smoothing"]) == (0.65, 0.1)
    assert (task["mixup"]["mixup_alpha"], task["mixup"]["cutmix_alpha"]) == (0.8, 1.0)
    assert (task["random_erasing"]["probability"], task["random_erasing"]["mode"]) == (0.25, "pixel")
    assert config["data"]["train_transform"]["auto_augment"] == "rand-m9-mstd0.5-inc1"
    assert (config["data"]["evaluation_transform"]["resize"], config["data"]["evaluation_transform"]["size"]) == (
        256,
        224,
    )
    assert (config["backbone"]["drop_path_rate"], config["backbone"]["head_init_scale"]) == (0.1, 0.001)
    assert (config["backbone"]["positions"], config["backbone"]["shared_rel_pos_bias"]) == ("relative", False)
    large = check(
        composed("experiment=vit_b_finetune_384", f"data.root={scenes_root}/folders", "backbone.weights=null")
    )
    assert (large["data"]["evaluation_transform"]["resize"], large["backbone"]["img_size"]) == (384, 384)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_has_a_recipe_card(experiment):
    text = (Path(CONF_DIR) / "experiment" / f"{experiment}.yaml").read_text()
    for word in ("python -m conmim_lightning.train", "# Sources", "# Expected", "# Hardware", "# Batch"):
        assert word in text


@pytest.mark.parametrize(("group", "option"), [(group, name) for group, names in OPTIONS.items() for name in names])
def test_every_option_passes_the_check(composed, group, option):
    changes = ["backbone.img_size=224"] if group == "masking" else []
    check(composed(f"{group}={option}", "data.root=.", *changes))


def test_recipe_of_the_large_model_is_the_published_one(composed):
    config = check(composed("experiment=vit_l_pretrain", "data.root=."))
    assert config["optimizer"]["lr"] == 7.5e-4
    assert config["optimizer"]["betas"] == [0.9, 0.98]
    assert config["optimizer"]["weight_decay"] == 0.05
    assert config["schedule"]["epochs"] == 1600
    assert config["schedule"]["max_grad_norm"] == 1.0
    assert config["backbone"]["init_values"] == 1e-5
    assert config["backbone"]["drop_path_rate"] == 0
    assert config["masking"] == {
        "_target_": "conmim_lightning.masking.random_units.RandomUnitMasking",
        "grid_size": 14,
        "unit_size": 2,
        "ratio": 0.75,
    }
