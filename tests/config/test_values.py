import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from hydra.errors import HydraException
from lightning import Trainer
from omegaconf import OmegaConf

from conmim_lightning.config.check import check
from conmim_lightning.config.values import describe, fits, range_fault, value_faults
from conmim_lightning.runtime.errors import _innermost
from conmim_lightning.train import run

# fmt: off
MISTAKES = [
    "data.batch_size=many", "data.batch_size=1.5", "data.batch_size=0", "data.batch_size=-4", "data.batch_size=null",
    "data.batch_size=[8]", "data.batch_size=true", "data.num_workers=two", "data.num_workers=-1",
    "data.num_workers=0.5", "data.seed=x", "seed=many", "seed=1.5", "data.root=null", "data.root=5",
    "data.root=[a,b]", "data.root=true", "data.mean=0.5", "data.mean=[a,b,c]", "data.mean=[0.5,0.5]",
    "data.std=[0,0.2,0.2]", "data.std=half", "data.crop.size=big", "data.crop.scale=0.5", "data.crop.scale=[a,b]",
    "data.crop.ratio=x", "data.crop.flip=2", "data.crop.flip=yes_please", "data.cache_decoded=maybe",
    "data.knn_images=0", "data.knn_images=all", "data.exclude=[1]", "data.index_dir=7", "data.decoder.max_pixels=0",
    "data.decoder.max_pixels=huge", "data.decoder.fast=2", "data.decoder.reducing_gap=0",
    "data.decoder.reducing_gap=no_gap", "data.decoder.formats=jpeg", "data.decoder.formats=[eps]",
    "data.decoder.value_range=12", "data.decoder.value_range=[1,0]", "data.decoder.channels=0",
    "data.decoder.channels=three", "data.decoder.upright=1", "data.source.follow_links=x",
    "data.source.include_hidden=2", "backbone.img_size=big", "backbone.img_size=225", "backbone.img_size=0",
    "backbone.img_size=-32", "backbone.img_size=96.5", "backbone.patch_size=x", "backbone.patch_size=0",
    "backbone.depth=0", "backbone.depth=deep", "backbone.depth=1.5", "backbone.num_heads=0", "backbone.num_heads=x",
    "backbone.num_heads=7", "backbone.embed_dim=0", "backbone.embed_dim=wide", "backbone.embed_dim=-16",
    "backbone.in_chans=none", "backbone.in_chans=0", "backbone.drop_path_rate=2", "backbone.drop_path_rate=x",
    "backbone.drop_path_rate=-0.1", "masking.ratio=most", "masking.ratio=1.5", "masking.ratio=-1",
    "masking.unit_size=0", "masking.unit_size=x", "masking.grid_size=x", "perturbation.teacher=loud",
    "perturbation.brightness=bright", "perturbation.brightness=-1", "perturbation.hue=0.9",
    "perturbation.blur_sigma=2", "perturbation.blur_sigma=[2,1]", "perturbation.gray_probability=2",
    "perturbation.gray_probability=often", "perturbation.solarize_threshold=300", "loss.temperature=0",
    "loss.temperature=warm", "loss.temperature=-1", "loss.dictionary=book", "loss.similarity_filter=x",
    "optimizer.lr=fast", "optimizer.lr=inf", "optimizer.lr=-1", "optimizer.lr=null", "optimizer.lr=[0.001]",
    "optimizer.betas=[0.9]",
    "optimizer.betas=0.9", "optimizer.betas=[0.9,1.5]", "optimizer.betas=[a,b]", "optimizer.weight_decay=x",
    "optimizer.weight_decay=-1", "optimizer.eps=-1", "optimizer.fused=x", "schedule.epochs=1.5", "schedule.epochs=0",
    "schedule.epochs=-3", "schedule.epochs=long", "schedule.warmup_epochs=999", "schedule.warmup_epochs=x",
    "schedule.min_lr=-1", "schedule.min_lr=1", "schedule.min_lr=x", "schedule.max_grad_norm=x",
    "schedule.accumulate_grad_batches=0", "schedule.accumulate_grad_batches=x", "schedule.lr_scaling=square",
    "schedule.base_batch_size=x", "schedule.teacher_momentum_start=2", "schedule.teacher_momentum_start=x",
    "trainer.precision=bf17", "trainer.devices=many", "trainer.devices=0", "trainer.devices=[a]",
    "trainer.num_nodes=0", "trainer.num_nodes=x", "trainer.max_epochs=x", "trainer.max_steps=x",
    "trainer.log_every_n_steps=-1", "trainer.log_every_n_steps=0", "trainer.log_every_n_steps=x",
    "trainer.accelerator=tpux", "trainer.strategy=ddpp", "trainer.max_time=long", "trainer.sync_batchnorm=x",
    "trainer.limit_train_batches=x", "callbacks.probe.every_n_epochs=0", "callbacks.probe.every_n_epochs=x",
    "callbacks.probe.num_neighbors=0", "callbacks.probe.temperature=x", "callbacks.report.num_images=x",
    "callbacks.checkpoint.every_n_epochs=-1", "callbacks.checkpoint.every_n_epochs=x",
    "callbacks.checkpoint.save_top_k=x", "callbacks.broken_images.max_fraction=2",
    "callbacks.broken_images.max_fraction=x", "callbacks.heartbeat.timeout=x", "callbacks.heartbeat.timeout=0",
    "task.log_every_n_steps=-1", "task.log_every_n_steps=x", "task.on_non_finite=panic", "task.compile=x",
    "stages=[train]", "stages=fit", "resume=3", "paths.run_dir=5",
]
# fmt: on

PYTHON = re.compile(
    r"not supported between|division|out of range|NoneType|object is not|unexpected keyword|os\.PathLike|Traceback|"
    r"not all arguments|cannot be interpreted|invalid literal|could not convert|unsupported operand|has no attribute"
)
"""Python's own words, which tell a user nothing."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_early_in_the_users_words(composed, tiny, tmp_path, monkeypatch, mistake):
    """Before training, with the key, or what its value must be, and the value."""
    monkeypatch.setattr(Trainer, "fit", lambda *arguments, **others: pytest.fail("training began"))
    key, value = mistake.split("=", 1)
    with pytest.raises((ValueError, OSError, HydraException)) as caught:
        run(composed("experiment=quickstart", *tiny, f"paths.run_dir={tmp_path}/run", mistake))
    message = str(_innermost(caught.value))
    assert not PYTHON.search(message), message
    assert key.split(".")[-1] in message, message
    assert value.strip("[]").split(",")[0].strip("\"'") in message.replace("None", "null").lower(), message


def test_there_are_more_than_110_mistakes():
    assert len(set(MISTAKES)) > 110


def test_all_values_are_checked_at_once(composed, tiny):
    mistakes = ["data.batch_size=many", "optimizer.lr=fast", "optimizer.betas=[0.9]", "seed=1.5", "backbone.depth=0"]
    with pytest.raises(ValueError, match=r"^5 fault\(s\)") as caught:
        check(composed("experiment=quickstart", *tiny, *mistakes))
    assert str(caught.value).splitlines()[1:] == [
        "  seed: a whole number is needed, got 1.5",
        "  data.batch_size: a whole number is needed, got 'many'",
        "  backbone.depth: must be at least 1, got 0",
        "  optimizer.lr: a number is needed, got 'fast'",
        "  optimizer.betas: a list of 2 numbers is needed, got [0.9]",
    ]


def test_a_value_is_named_where_it_is_written():
    """An interpolated value at its source, once."""
    written = {
        "size": "big",
        "crop": {"_target_": "conmim_lightning.data.transforms.crop.RandomResizedCrop", "size": "${size}"},
        "other": {"_target_": "conmim_lightning.data.transforms.crop.CenterSquare", "size": "${size}"},
    }
    faults = value_faults(OmegaConf.create(written), written)
    assert [fault for _, fault in faults.values()] == ["size: a whole number is needed, got 'big'"]


def test_home_folders_in_files(composed, tiny):
    with pytest.raises(ValueError, match=r"data.root: ~ is not expanded .*write \$\{oc.env:HOME\}/x"):
        check(composed("experiment=quickstart", *tiny, "data.root='~/x'"))


def test_the_learning_rate_does_not_rise_at_the_end(composed, tiny):
    with pytest.raises(ValueError, match=r"schedule.min_lr: 0.1 is above optimizer.lr, 0.01"):
        check(composed("experiment=quickstart", *tiny, "schedule.min_lr=0.1", "optimizer.lr=0.01"))


@pytest.mark.parametrize(
    ("annotation", "good", "bad", "words"),
    [
        (int, [0, -3], [1.5, True, "1", None], "a whole number"),
        (float, [1, 1.5], ["x", True, None], "a number"),
        (bool, [True], [0, "yes"], "true or false"),
        (str | None, ["x", None], [3, ["x"]], "text or null"),
        (Literal["a", "b"] | int, ["a", 3], ["c"], "one of a, b or a whole number"),
        (Sequence[float], [[1, 2.5], []], ["ab", [1, "x"], 3], "a list of numbers"),
        (tuple[float, float], [[1, 2]], [[1], [1, 2, 3], ["a", 1]], "a list of 2 numbers"),
        (dict[str, str], [{"a": "b"}], [[1], "x"], "a dictionary"),
        (Mapping[str, int], [{"a": 1}], [[1], "x"], "a dictionary"),
        (Any, [1, "x", None], [], ""),
        (Path, [3], [], ""),
    ],
)
def test_annotations(annotation, good, bad, words):
    assert describe(annotation) == words
    assert all(fits(value, annotation) for value in good)
    assert not any(fits(value, annotation) for value in bad)


def test_ranges():
    assert range_fault("batch_size", 8) == ""
    assert range_fault("batch_size", 0) == "must be at least 1, got 0"
    assert range_fault("betas", [0.9, 2]) == "must be from 0 to 1, got [0.9, 2]"
    assert range_fault("devices", -1) == range_fault("unknown", -5) == ""
    assert range_fault("unknown", float("nan")) == "must be finite, got nan"
    assert range_fault("lr", float("inf")) == "must be finite, got inf"
    assert range_fault("unknown", float("inf")) == ""
