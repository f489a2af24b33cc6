"""One collection through every source, in real runs."""

import csv
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from conftest import tiny_overrides
from shard_files import write_shards
from stopping import StopOnly, run_with

from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.synthetic.digits import write_digits
from conmim_lightning.train import run

SHORT = [
    "experiment=quickstart",
    "schedule.epochs=2",
    "schedule.warmup_epochs=1",
]


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> Path:
    """scikit-learn's digits as a folder, lists and shards."""
    root = tmp_path_factory.mktemp("collection")
    write_digits(root / "digits", size=48)
    (root / "folder").symlink_to(root / "digits" / "train")
    source = FolderSource(root / "folder")
    names = [source.name(index) for index in range(len(source))]
    (root / "list.txt").write_text("".join(f"{name} {name[0]}\n" for name in names))
    (root / "list.csv").write_text("file\n" + "".join(f"{name}\n" for name in names))
    (root / "shards").mkdir()
    for shard in range(3):
        with tarfile.open(root / "shards" / f"{shard}.tar", "w") as archive:
            for index in range(shard * 500, min(shard * 500 + 500, len(names))):
                archive.add(source.path(index), f"{index:05d}.png")
    return root


def sources(root: Path) -> dict[str, list[str]]:
    return {
        "folder": ["data=folder", f"data.root={root}/folder"],
        "manifest": ["data=manifest", f"data.root={root}/folder", f"data.source.manifest={root}/list.txt"],
        "csv": [
            "data=manifest",
            f"data.root={root}/folder",
            f"data.source.manifest={root}/list.csv",
            "data.source.path_column=file",
        ],
        "shards": ["data=shards", f"data.root={root}/shards"],
    }


def weights(trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.lightning_module.state_dict().items()}


def settings(scenes_root: Path, tmp_path: Path) -> list[str]:
    small = [item for item in tiny_overrides(scenes_root) if not item.startswith("data")]
    return [
        *SHORT,
        *small,
        "~callbacks.report",
        "data.batch_size=8",
        "data.num_workers=0",
        "logger=none",
        f"paths.data_dir={tmp_path}/data",
    ]


def test_every_source_has_the_same_run_bit_for_bit(collection, scenes_root, tmp_path, composed):
    """The quickstart's recipe on digits: every loss, and the weights at the end."""
    changes = ["data.batch_size=128", "logger=csv", "trainer.log_every_n_steps=1"]
    results, losses = {}, {}
    for name, overrides in sources(collection).items():
        folder = tmp_path / name
        trainer = run(composed(*settings(scenes_root, tmp_path), *overrides, *changes, f"paths.run_dir={folder}"))
        results[name] = weights(trainer)
        with (folder / "metrics" / "metrics.csv").open() as file:
            losses[name] = [row["train/loss"] for row in csv.DictReader(file) if row["train/loss"]]
    assert len(losses["folder"]) == 22
    for name, state in results.items():
        assert losses[name] == losses["folder"]
        assert all(torch.equal(value, results["folder"][key]) for key, value in state.items()), name


STREAM = [
    "data=stream",
    "data.cache_decoded=false",
    "data.source.shards='{0..2}.tar'",
    "data.source.samples_per_epoch=48",
    "data.source.lanes=2",
]


@pytest.mark.slow
def test_a_stream_resumes_with_another_number_of_workers(collection, scenes_root, tmp_path, composed, monkeypatch):
    """Stopped within an epoch and resumed with two processes, it has the weights of an uninterrupted run."""
    stream = [*settings(scenes_root, tmp_path), *STREAM, f"data.root={collection}/shards"]
    uninterrupted = weights(run(composed(*stream, f"paths.run_dir={tmp_path}/uninterrupted")))
    run_with(composed(*stream, f"paths.run_dir={tmp_path}/first"), monkeypatch, StopOnly(8))
    resumed = run(
        composed(*stream, "data.num_workers=2", f"resume={tmp_path}/first/checkpoints/last.ckpt"),
    )
    assert resumed.global_step == 12
    assert all(torch.equal(value, uninterrupted[key]) for key, value in weights(resumed).items())


def test_skipped_shards_are_listed_with_the_broken_images(tmp_path, scenes_root, composed):
    write_shards(tmp_path / "set", 24, 24)
    (tmp_path / "set" / "00001.tar").write_bytes(b"no archive")
    stream = [
        "data=stream",
        "data.cache_decoded=false",
        f"data.root={tmp_path}/set",
        "data.source.shards='{00000..00001}.tar'",
    ]
    stream += ["data.source.samples_per_epoch=24", "data.source.lanes=1", "data.source.retries=0"]
    run(composed(*settings(scenes_root, tmp_path), *stream, "callbacks.broken_images.max_fraction=0.5"))
    listed = (tmp_path / "run" / "broken_images.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in listed] == ["00001.tar"]
    assert "left out after 0 images and 1 attempts" in listed[0]


def test_images_listed_as_broken_can_be_excluded(scenes_root, tmp_path, composed, collection):
    shutil.copytree(scenes_root / "folders" / "train", tmp_path / "images")
    source = FolderSource(tmp_path / "images")
    for index in (3, 4):
        source.path(index).write_bytes(b"no image")
    overrides = [*settings(scenes_root, tmp_path), "data=folder", f"data.root={tmp_path}/images"]
    run(composed(*overrides, "callbacks.broken_images.max_fraction=0.1"))
    listed = tmp_path / "run" / "broken_images.tsv"
    overrides += [
        f"data.exclude={listed}",
        "callbacks.broken_images.max_fraction=0",
        f"paths.run_dir={tmp_path}/second",
    ]
    trainer = run(composed(*overrides))
    assert len(trainer.datamodule.source) == 46  # type: ignore[attr-defined]


def test_a_stream_cannot_cache_decoded_images(collection, scenes_root, tmp_path, composed):
    stream = [*settings(scenes_root, tmp_path), *STREAM, f"data.root={collection}/shards", "data.cache_decoded=true"]
    with pytest.raises(ValueError, match="is a stream, which cannot be cached"):
        run(composed(*stream))
