"""Features of whole collections, beside those of frozen probes."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from pyarrow import parquet
from safetensors.numpy import load_file
from shard_files import write_shard

from conmim_lightning import load
from conmim_lightning.config.check import CONF_DIR
from conmim_lightning.config.resolvers import register_resolvers
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.embed import run
from conmim_lightning.embedding.writer import ChunkWriter

CPU = ["trainer=cpu", "num_workers=0"]


def embed(output, *overrides: str):
    register_resolvers()
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        return run(compose("embed", [f"output={output}", *CPU, f"paths.run_dir={output}.run", *overrides]))


def names_of(path) -> list[str]:
    with path.open() as file:
        return [row["name"] for row in csv.DictReader(file, delimiter="\t")]


@pytest.fixture
def images(scenes_root):
    return scenes_root / "folders" / "val"


def test_features_of_a_folder(labelled_runs, images, tmp_path):
    folder, _ = labelled_runs
    own = [f"checkpoint={folder}/pretrained", f"images={images}", "chunk_size=5", "batch_size=2"]
    written = embed(tmp_path / "x.safetensors", *own, "features=[last1_mean,last2_cls,patches]")
    assert [path.name for path in written] == ["x.safetensors", "x.tsv"]
    model, source = load(folder / "pretrained"), FolderSource(images)
    paths = [source.path(index) for index in range(len(source))]
    stored = load_file(tmp_path / "x.safetensors")
    assert names_of(tmp_path / "x.tsv") == [source.name(index) for index in range(len(source))]
    expected = {name: model.features(paths, name).numpy() for name in ("last1_mean", "last2_cls")}
    expected["patches"] = model.patch_features(paths).numpy()
    for name, values in expected.items():
        np.testing.assert_allclose(stored[name], values, atol=1e-5)
    assert not list(tmp_path.glob(".*")), "no chunk is left"


def test_labels_and_unreadable_images(labelled_runs, scenes_root, tmp_path, capsys):
    folder, _ = labelled_runs
    root = tmp_path / "set"
    for path in sorted((scenes_root / "folders" / "val").rglob("*.jpg"))[::3]:
        target = root / "train" / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    broken = sorted(root.rglob("*.jpg"))[0].with_name("zz.jpg")
    broken.write_bytes(b"nothing")
    own = ["data=labelled_folder", f"data.root={root}", "backbone=vit_tiny", "backbone.img_size=32"]
    embed(tmp_path / "x.parquet", f"checkpoint={folder}/finetuned", "half=true", *own)
    table = parquet.read_table(tmp_path / "x.parquet")
    assert table.column_names == ["name", "label", "class", "pooled"]
    for name, kind in zip(table["name"].to_pylist(), table["class"].to_pylist(), strict=True):
        assert Path(name).parent.name == kind
    assert str(table["pooled"].type) == "fixed_size_list<element: halffloat>[16]"
    name, reason = (tmp_path / "x.broken.tsv").read_text().strip().split("\t")
    assert name.endswith("zz.jpg")
    assert reason.startswith("UnidentifiedImageError")
    assert f"{table.num_rows} images have features, 1 cannot be read" in capsys.readouterr().out


def test_an_interrupted_command_continues(labelled_runs, images, tmp_path, monkeypatch, capsys):
    folder, _ = labelled_runs
    own = [f"checkpoint={folder}/pretrained", f"images={images}", "chunk_size=5"]
    embed(tmp_path / "whole.npy", *own)
    add, calls = ChunkWriter.on_predict_batch_end, []

    def interrupted(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        calls.append(batch.chunk)
        if len(calls) == 3:
            raise KeyboardInterrupt
        add(self, trainer, pl_module, outputs, batch, batch_idx)

    monkeypatch.setattr(ChunkWriter, "on_predict_batch_end", interrupted)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        embed(tmp_path / "x.npy", *own)
    assert not (tmp_path / "x.npy").exists()
    with pytest.raises(ValueError, match="an interrupted run with other features"):
        embed(tmp_path / "x.npy", *own, "features=[last1_cls]")
    embed(tmp_path / "x.npy", *own)
    assert "2 of 5 chunks are stored already" in capsys.readouterr().out
    assert calls == [0, 1, 2, 2, 3, 4]
    assert np.array_equal(np.load(tmp_path / "x.npy"), np.load(tmp_path / "whole.npy"))


def test_shards_and_streams(labelled_runs, images, tmp_path):
    folder, _ = labelled_runs
    paths = sorted(images.rglob("*.jpg"))
    for number in range(3):
        members = {f"{path.stem}.jpg": path.read_bytes() for path in paths[number::3]}
        write_shard(tmp_path / "set" / f"{number}.tar", members)
    own = [f"checkpoint={folder}/pretrained", f"data.root={tmp_path}/set"]
    embed(tmp_path / "a.npy", *own, "data=shards")
    stream = ["data=stream", "data.source.shards={0..2}.tar", "data.source.samples_per_epoch=3"]
    embed(tmp_path / "b.npy", *own, *[word.replace("{", "\\{").replace("}", "\\}") for word in stream])
    assert names_of(tmp_path / "a.tsv") == names_of(tmp_path / "b.tsv")
    assert np.array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))
    assert len(np.load(tmp_path / "a.npy")) == len(paths)


def test_other_weights(images, tmp_path):
    """Of a file without an architecture, which the backbone's configuration gives."""
    from conmim_lightning.models.backbones import vit

    backbone = vit(embed_dim=192, depth=2, num_heads=3, img_size=32, patch_size=8, positions="absolute")
    torch.save({"model": backbone.state_dict()}, tmp_path / "x.pth")
    own = ["backbone=vit_tiny", "backbone.depth=2", "backbone.img_size=32", "backbone.patch_size=8"]
    own += ["backbone.embed_dim=192", "backbone.num_heads=3", "backbone.positions=absolute", f"images={images}"]
    embed(tmp_path / "x.npy", *own, "backbone.shared_rel_pos_bias=false", f"backbone.weights={tmp_path}/x.pth")
    assert np.load(tmp_path / "x.npy").shape == (24, 192)


def test_mistakes(labelled_runs, dense_pretrained, images, tmp_path):
    folder, _ = labelled_runs
    known = [f"checkpoint={folder}/pretrained", f"images={images}"]
    for own, message in (
        ([f"images={images}"], "checkpoint= is needed, or backbone= with backbone.weights="),
        ([f"checkpoint={folder}/pretrained"], "images= is needed, or data.root="),
        ([*known, "chunk_size=0"], "chunk_size must be at least 1, got 0"),
        ([*known, "features=[last9_mean]"], "feature 'last9_mean' is unknown"),
        ([*known, "features=[last1_mean,last1_cls]"], "npy holds one feature"),
        ([*known, "checkpoint=nowhere"], "'nowhere' does not exist"),
    ):
        with pytest.raises(ValueError, match=message):
            embed(tmp_path / "x.npy", *own)


@pytest.mark.ddp
@pytest.mark.slow
def test_two_devices(labelled_runs, images, tmp_path):
    folder, _ = labelled_runs
    own = [f"checkpoint={folder}/pretrained", f"images={images}", "chunk_size=5", "trainer=cpu", "num_workers=1"]
    embed(tmp_path / "one.npy", *own)
    command = [sys.executable, "-m", "conmim_lightning.embed", *own, f"output={tmp_path}/two.npy"]
    command += ["trainer.devices=2", "trainer.strategy=ddp"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("two.npy") == 1
    assert np.array_equal(np.load(tmp_path / "one.npy"), np.load(tmp_path / "two.npy"))
