import pytest
import torch
from profiling_config import benchmark_config, composed_config

from conmim_lightning.profiling.build import (
    build_data,
    build_runner,
    check_pretraining,
    has_image_root,
    measure_loader,
    measure_training,
    synthetic_batch,
)


@pytest.fixture
def config(tiny, tmp_path):
    return benchmark_config(tiny, tmp_path)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_alone_and_the_whole_training_are_timed(config, workers):
    config["data"]["num_workers"] = workers
    loader = measure_loader(build_data(config, 4, {}), warmup=1, groups=3)
    training = measure_training(
        config, build_data(config, 4, {}), variant="ours", precision="32-true", warmup=1, groups=3
    )
    for result in (loader, training):
        assert len(result["rates"]) == 3
        assert min(result["rates"]) > 0
        assert result["num_workers"] == workers
    assert all(0 <= fraction <= 1 for fraction in training["waits"])
    assert training["variant"] == "ours"


def test_synthetic_photos_stand_in_for_images_that_are_not_named(tmp_path):
    own = [f"paths.run_dir={tmp_path}", f"paths.data_dir={tmp_path}", "data.num_workers=0", "backbone=vit_tiny"]
    own += ["benchmark.photos.prepare.count=16", "benchmark.photos.prepare.names=3"]
    config = composed_config("benchmark", *own)
    assert not has_image_root(config)
    from hydra.utils import instantiate

    data = build_data(config, 4, instantiate(config["benchmark"]["photos"]))
    assert len(measure_loader(data, warmup=0, groups=2)["rates"]) == 2
    photos = list((tmp_path / "photos").rglob("*.jpg"))
    assert (len(photos), len({photo.stat().st_ino for photo in photos})) == (48, 16)


def test_float16_is_timed_as_in_training(config):
    """A fused step would hide the scaled gradients from clipping."""
    config["task"]["optimizer"]["fused"] = True
    assert not build_runner(config, "ours", "16-mixed", 2).optimizer.defaults["fused"]
    assert build_runner(config, "ours", "bf16-mixed", 2).optimizer.defaults["fused"]


def test_a_synthetic_batch_is_the_same_every_time(config):
    batch, again = synthetic_batch(config, 3), synthetic_batch(config, 3)
    assert torch.equal(batch.crop, again.crop)
    assert (batch.crop.shape, batch.crop.dtype) == ((3, 3, 32, 32), torch.uint8)
    assert batch.mask.shape == (3, 4, 4)
    assert batch.max_hidden == batch.mask.flatten(1).sum(1).max()


def test_another_task_is_refused():
    config = {"task": {"_target_": "conmim_lightning.tasks.classification.ClassificationTask"}}
    with pytest.raises(ValueError, match="plan is for pre-training, got task ClassificationTask"):
        check_pretraining(config, "plan")
