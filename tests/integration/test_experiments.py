import json
from pathlib import Path

import pytest
from conftest import tiny_dense, tiny_labelled

from conmim_lightning.config.check import CONF_DIR
from conmim_lightning.train import run

EXPERIMENTS = sorted(path.stem for path in (Path(CONF_DIR) / "experiment").glob("*.yaml"))


PRETRAINING = [name for name in EXPERIMENTS if name == "quickstart" or name.endswith(("_pretrain", "_simmim"))]


DENSE = [name for name in EXPERIMENTS if any(kind in name for kind in ("ade20k", "coco", "segmentation", "detection"))]


DOWNSTREAM = sorted(set(EXPERIMENTS) - set(PRETRAINING) - set(DENSE))


@pytest.mark.parametrize("experiment", PRETRAINING)
def test_every_pretraining_takes_two_steps_on_synthetic_data(composed, tiny, experiment):
    if experiment.endswith("_simmim"):  # has no projector of these widths
        tiny = [item for item in tiny if "projector" not in item]
    trainer = run(composed(f"experiment={experiment}", *tiny, "debug=two_steps"))
    assert trainer.global_step == 2


@pytest.mark.parametrize("experiment", DOWNSTREAM)
def test_every_other_experiment_runs_on_synthetic_data(composed, scenes_root, tmp_path, experiment):
    few = ["task.probes.knn.num_neighbors=[1,5]"] if "knn" in experiment or "frozen" in experiment else []
    trainer = run(composed(f"experiment={experiment}", *tiny_labelled(scenes_root), *few, "debug=two_steps"))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert any(name.startswith("test/") and name.endswith("top1") for name in metrics)
    assert trainer.global_step == (0 if few else 2)
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
    assert (tmp_path / "run" / "confusion.png").is_file()


@pytest.mark.parametrize("experiment", DENSE)
def test_every_dense_experiment_runs_on_synthetic_data(composed, scenes_root, tmp_path, experiment):
    kind = "coco" if "coco" in experiment or "detection" in experiment else "segmentation"
    trainer = run(composed(f"experiment={experiment}", *tiny_dense(scenes_root, kind), "debug=two_steps"))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert ("test/mask_ap" if kind == "coco" else "test/miou") in metrics
    assert trainer.global_step == 2
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
    assert list((tmp_path / "run" / "pictures").iterdir())
    assert (tmp_path / "run" / "per_class.tsv").is_file()


@pytest.mark.parametrize(
    ("kind", "choice"),
    [
        ("segmentation", ["task/head=linear"]),
        ("segmentation", ["task/head=dpt", "task.model.head.intermediate=[8,8,8,8]", "task.model.head.channels=16"]),
        ("segmentation", ["task.model.global_attn_blocks=[1,3]", "task.model.checkpointing=true"]),
        ("segmentation", ["task.inference.stride=null", "task.inference.scales=[0.5,1.0]", "task.inference.flip=true"]),
        ("segmentation", ["callbacks=segmentation_ema", "data.dataset.transform.photometric=null"]),
        ("segmentation", ["task.model.head.norm=group", "data.batch_size=1"]),
        ("coco", ["task/pyramid=mimdet", "task.model.norm=batch"]),
        ("coco", ["data.source.masks=false", "callbacks=detection_ema"]),
        ("coco", ["schedule.name=multistep", "task.model.checkpointing=true", "task.model.global_attn_blocks=null"]),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_every_documented_choice_of_dense_tasks_takes_two_steps(composed, scenes_root, kind, choice):
    task = "detection" if kind == "coco" else "segmentation"
    small = tiny_dense(scenes_root, kind)
    if "head=linear" in choice[0]:
        small = [item for item in small if "head.channels" not in item]
    trainer = run(composed(f"experiment=quickstart_{task}", *choice[:1], *small, *choice[1:], "debug=two_steps"))
    assert trainer.global_step == 2


@pytest.mark.parametrize("kind", ["segmentation", "coco"])
def test_timm_models_serve_dense_tasks(composed, scenes_root, kind):
    """Models with absolute positions and a class token; their depth is given by the user."""
    own = ("backbone.patch", "backbone.embed", "backbone.depth", "backbone.num_heads")
    small = [item for item in tiny_dense(scenes_root, kind) if not item.startswith(own)]
    named = ["backbone=timm", "backbone.name=vit_tiny_patch16_224"]
    blocks = ["task.model.global_attn_blocks=[2,5,8,11]", "task.model.out_indices=[11]"]
    blocks = blocks if kind == "coco" else ["task.model.out_indices=[3,5,7,11]", "task.inference.stride=48"]
    trainer = run(composed(f"experiment=vit_b_{'coco' if kind == 'coco' else 'ade20k'}", *named, *small, *blocks,
                           "debug=two_steps"))  # fmt: skip
    assert trainer.global_step == 2


@pytest.mark.parametrize(
    ("overrides"),
    [
        ["masking=block", "masking.num_hidden=7", "masking.min_block=2"],
        ["masking=uniform"],
        ["perturbation=both_strong"],
        ["perturbation=switched"],
        ["loss.dictionary=device", "loss.similarity_filter=0.9"],
        ["backbone.in_chans=1", "data.mean=[0.5]", "data.std=[0.5]"],
        ["backbone.in_chans=4", "data.mean=[0.5,0.5,0.5,0.5]", "data.std=[0.5,0.5,0.5,0.5]"],
        ["schedule.accumulate_grad_batches=2", "schedule.lr_scaling=linear"],
        ["task.on_non_finite=skip", "trainer.precision=bf16-mixed"],
        ["task.model.attn_implementation=sdpa", "task.model.checkpointing=true"],
        ["task.model.project=masked", "masking=block", "masking.num_hidden=7", "masking.min_block=2"],
        ["logger=tensorboard", "~logger.csv"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_every_documented_choice_takes_two_steps(composed, tiny, overrides):
    trainer = run(composed("experiment=quickstart", *tiny, "debug=two_steps", *overrides))
    assert trainer.global_step == 2


@pytest.mark.parametrize("positions", ["absolute", "rotary"])
def test_other_positions_take_two_steps(composed, tiny, positions):
    overrides = [f"backbone.positions={positions}", *tiny, "debug=two_steps", "task.model.locality=0"]
    trainer = run(composed("experiment=vit_b_pretrain", *overrides))
    assert trainer.global_step == 2
