"""Shared fixtures; torch uses one thread, so that sums have one order."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from timm.models.beit import Beit

from conmim_lightning.config.check import CONF_DIR
from conmim_lightning.config.resolvers import register_resolvers
from conmim_lightning.data.synthetic.scene_files import write_scenes
from conmim_lightning.models.conmim import ConMIM
from conmim_lightning.models.projector import Projector
from conmim_lightning.runtime.errors import EXPECTED_WARNINGS

pytest_plugins = ["callback_runs", "commands", "downstream_runs"]

GOLDEN = Path(__file__).parent / "golden"

torch.set_num_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    """Warnings are errors, except those that users do not see."""
    for message in EXPECTED_WARNINGS:
        config.addinivalue_line("filterwarnings", f"ignore:{message}")
    for of_gpus in (
        "GPU available but not used",
        "TensorFloat32 tensor cores",
        "Please use the new API settings to control TF32",
    ):
        config.addinivalue_line("filterwarnings", f"ignore:{of_gpus}")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Tests without their own seed are the same in every run."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def scenes_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 training and 24 validation scenes of 64 pixels, in all layouts."""
    root = tmp_path_factory.mktemp("made") / "scenes"
    write_scenes(root, train=48, val=24, size=64, seed=3)
    return root


@pytest.fixture
def composed(tmp_path: Path) -> Callable[..., DictConfig]:
    """Compose the configuration of ``train`` with overrides, writing below ``tmp_path``."""
    register_resolvers()

    def compose_with(*overrides: str) -> DictConfig:
        with initialize_config_dir(CONF_DIR, version_base="1.3"):
            return compose("train", [f"paths.run_dir={tmp_path}/run", "logger=csv", "trainer=cpu", *overrides])

    return compose_with


@pytest.fixture
def tiny(scenes_root: Path) -> list[str]:
    """See ``tiny_overrides``."""
    return tiny_overrides(scenes_root)


def tiny_overrides(scenes_root: Path) -> list[str]:
    """Overrides that make any pre-training small: synthetic data, a narrow model, no workers."""
    return [
        "data=scenes",
        *_small(scenes_root, depth=2),
        "task.model.projector.hidden_dim=16",
        "task.model.projector.out_dim=8",
        "callbacks.report.num_images=2",
    ]


def tiny_labelled(scenes_root: Path, *, depth: int = 4) -> list[str]:
    """Overrides that make any experiment with labels small, from random initialisation."""
    return [
        "data=labelled_scenes",
        *_small(scenes_root, depth=depth),
        f"data.root={scenes_root}/folders",
        "data.allow_missing_classes=true",
        "backbone.weights=null",
    ]


def tiny_dense(scenes_root: Path, kind: str) -> list[str]:
    """Overrides that make any segmentation or detection ("coco") small, from random initialisation."""
    small = [
        f"data={kind}_scenes",
        *_small(scenes_root, depth=4),
        f"data.root={scenes_root}/{'coco' if kind == 'coco' else 'ade20k'}",
        "backbone.weights=null",
        "trainer.precision=32-true",
        "data.batch_size=2",
        "data.size=64",
    ]
    if kind == "coco":
        small += ["task.model.head_channels=16", "task.model.box_head_dim=16", "task.model.box_batch_size_per_image=8"]
        small += [
            "task.model.rpn_top_n=20",
            "task.model.anchor_sizes=[8,12,16,24,32]",
            "task.model.pyramid.out_channels=16",
        ]
        return [*small, "data.evaluation_batch_size=4"]
    return [*small, "task.model.head.channels=16", "task.inference.stride=40", "data.evaluation_batch_size=4"]


def _small(scenes_root: Path, *, depth: int) -> list[str]:
    return [
        f"data.prepare.root={scenes_root}",
        "data.prepare.train=48",
        "data.prepare.val=24",
        "data.prepare.size=64",
        "data.prepare.seed=3",
        "data.batch_size=8",
        "data.num_workers=0",
        "backbone.img_size=32",
        "backbone.patch_size=8",
        "backbone.embed_dim=16",
        f"backbone.depth={depth}",
        "backbone.num_heads=2",
        "trainer.precision=32-true",
    ]


def beit(**changes: Any) -> Beit:
    """A small backbone of the method's family."""
    arguments: dict[str, Any] = {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 16,
        "depth": 2,
        "num_heads": 2,
        "init_values": 0.1,
        "use_abs_pos_emb": False,
        "use_shared_rel_pos_bias": True,
        "num_classes": 0,
        "global_pool": "token",
    }
    return Beit(**(arguments | changes))


def conmim(**changes: Any) -> ConMIM:
    """A small student and teacher."""
    own = {
        name: changes.pop(name)
        for name in ("project", "checkpointing", "locality", "attn_implementation")
        if name in changes
    }
    return ConMIM(backbone=beit(**changes), projector=partial(Projector, hidden_dim=16, out_dim=8), **own)
