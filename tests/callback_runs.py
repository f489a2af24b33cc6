"""Short runs whose callbacks are tested."""

import csv
import shutil
from pathlib import Path

import pytest
from conftest import tiny_overrides
from hydra import compose, initialize_config_dir

from conmim_lightning.config.check import CONF_DIR
from conmim_lightning.config.resolvers import register_resolvers
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.train import run

SHORT = [
    "experiment=quickstart",
    "schedule.epochs=2",
    "schedule.warmup_epochs=0",
    "trainer.log_every_n_steps=2",
    "task.log_every_n_steps=2",
]


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, scenes_root):
    """One short run: its trainer and its folder."""
    register_resolvers()
    folder = tmp_path_factory.mktemp("finished") / "run"
    own = [f"paths.run_dir={folder}", "logger=csv", "trainer=cpu", *SHORT, *tiny_overrides(scenes_root)]
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        cfg = compose("train", own)
    return run(cfg), folder


@pytest.fixture
def damaged(scenes_root: Path, tmp_path: Path) -> Path:
    """48 images of which two are broken."""
    root = tmp_path / "images"
    shutil.copytree(scenes_root / "folders" / "train", root)
    for path in map(FolderSource(root).path, (5, 6)):
        path.write_bytes(b"not an image")
    return root


def folder_overrides(root: Path, tiny: list[str]) -> list[str]:
    """One epoch on the images of a folder."""
    small = [item for item in tiny if not item.startswith("data.prepare") and item != "data=scenes"]
    length = ["schedule.epochs=1", "schedule.warmup_epochs=0"]
    return ["experiment=quickstart", "data=folder", f"data.root={root}", *length, *small]


def callback_of(trainer, kind):
    """The callback of a class."""
    return next(callback for callback in trainer.callbacks if isinstance(callback, kind))


def logged(folder: Path) -> list[dict[str, str]]:
    """Rows of the CSV logger."""
    with (folder / "metrics" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))
