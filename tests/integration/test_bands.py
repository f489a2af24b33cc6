"""Images of six bands, from the file to the exported encoder."""

import csv

import numpy as np
import pytest
import tifffile
import timm
import torch
from downstream_runs import configure, export
from hydra import compose, initialize_config_dir

from conmim_lightning import load
from conmim_lightning.config.check import CONF_DIR
from conmim_lightning.embed import run as embed
from conmim_lightning.inspect import run as inspect
from conmim_lightning.train import run

BANDS = 6
OWN = [
    "data=folder",
    "data.class_map_root=null",
    "data.prepare=null",
    f"backbone.in_chans={BANDS}",
    "perturbation=multispectral",
    f"data.mean={[0.4] * BANDS}",
    f"data.std={[0.1] * BANDS}",
    "data.decoder.formats=[tiff,npy]",
    "data.decoder.value_range=[0,4095]",
]


@pytest.fixture
def collection(tmp_path):
    """Two classes of 12-bit images, as TIFF of six samples, of six pages, and as arrays."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 12)):
        for label, name in enumerate("ab"):
            folder = tmp_path / "set" / split / name
            folder.mkdir(parents=True)
            for number in range(count // 2):
                coarse = rng.normal(0, 1, (8, 8, BANDS)).repeat(8, 0).repeat(8, 1)
                slope = 200 * label * np.arange(BANDS)
                values = np.clip(1200 + 300 * coarse + slope, 0, 4095).astype(np.uint16)
                if number % 3 == 0:
                    np.save(folder / f"{number}.npy", values)
                elif number % 3 == 1:
                    tifffile.imwrite(folder / f"{number}.tif", values, photometric="minisblack", planarconfig="contig")
                else:
                    tifffile.imwrite(folder / f"{number}.tif", values.transpose(2, 0, 1), compression="zlib")
    return tmp_path / "set"


def compose_embed(folder, *overrides):
    """The configuration of ``embed``."""
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        return compose(
            "embed", [f"output={folder}/x.npy", f"paths.run_dir={folder}", "trainer=cpu", "num_workers=0", *overrides]
        )


def test_pre_training_probe_export_and_embed(composed, collection, tiny, tmp_path):
    own = [word for word in tiny if not word.startswith("data")]
    paths = [f"data.root={collection}/train", f"data.labelled_root={collection}", f"paths.run_dir={tmp_path}/run"]
    more = [
        "schedule.epochs=2",
        "data.num_workers=0",
        "schedule.warmup_epochs=0",
        "data.batch_size=8",
        "trainer.log_every_n_steps=1",
    ]
    trainer = run(composed("experiment=quickstart", *own, *OWN, *paths, *more, "trainer.log_every_n_steps=1"))
    assert trainer.callback_metrics["val/knn_top1"] > 0.5
    with (tmp_path / "run" / "metrics" / "metrics.csv").open() as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]
    assert losses
    assert np.isfinite(losses).all()
    export(configure("export", tmp_path, f"checkpoint={tmp_path}/run", f"output={tmp_path}/timm"))
    model = timm.create_model(f"local-dir:{tmp_path}/timm", pretrained=True).eval()
    images = torch.rand(2, BANDS, *model.pretrained_cfg["input_size"][1:])
    assert model.pretrained_cfg["input_size"][0] == BANDS
    with torch.no_grad():
        tokens, expected = model.forward_features(images)[:, 1:], trainer.lightning_module.eval()(images)
    torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=1e-4)
    embed(compose_embed(tmp_path, f"checkpoint={tmp_path}/run", f"images={collection}/val"))
    assert np.load(tmp_path / "x.npy").shape == (12, tokens.shape[2])
    names = [f"{collection}/val/{line}" for line in (tmp_path / "x.tsv").read_text().splitlines()[1:]]
    np.testing.assert_allclose(np.load(tmp_path / "x.npy"), load(tmp_path / "run").features(names).numpy(), atol=1e-5)


def test_inspection(collection, tmp_path):
    report = inspect(configure("inspect", tmp_path / "out", *OWN, f"data.root={collection}/train"))
    assert (report["images"], report["broken"], report["constant"]) == (24, 0, 0)
    assert report["formats"] == {"TIFF": 16, "NPY": 8}
