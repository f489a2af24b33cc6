import json

import numpy as np
import pytest
from downstream_runs import KINDS, configure
from PIL import Image

from conmim_lightning.visualize import run as visualize


@pytest.mark.parametrize("kind", KINDS)
def test_images_without_annotations_are_drawn(dense_runs, scenes_root, tmp_path, kind):
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index, size in enumerate([(40, 70), (64, 64), (101, 33)]):
        Image.fromarray(rng.integers(0, 255, (*size, 3), np.uint8)).save(folder / f"{index}.png")
    (folder / "3.png").write_bytes(b"nothing")
    out = tmp_path / "predictions"
    visualize(
        configure(
            "visualize", tmp_path / "v", f"checkpoint={dense_runs}/{kind}", f"images={folder}", f"predictions={out}"
        )
    )
    assert len(list((tmp_path / "v" / "pictures").iterdir())) == 3
    if kind == "segmentation":
        assert [np.asarray(Image.open(out / f"{n}.png")).shape for n in range(3)] == [(40, 70), (64, 64), (101, 33)]
    else:
        entries = json.loads(out.read_text())
        names = {entry["category"] for entry in entries}
        assert names <= {"disc", "square", "triangle", "star", "cross", "ring"}
        assert {entry["image_id"] for entry in entries} <= {"0.png", "1.png", "2.png"}


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_the_runs_images(dense_runs, tmp_path, kind):
    folder = visualize(configure("visualize", tmp_path, f"checkpoint={dense_runs}/{kind}", "pictures=3"))
    assert [path.name[:6] for path in sorted(folder.iterdir())] == ["000000", "000008", "000016"]


def test_a_run_without_drawings(dense_pretrained, tmp_path):
    with pytest.raises(ValueError, match="is of PretrainTask; only segmentation and detection are drawn"):
        visualize(configure("visualize", tmp_path, f"checkpoint={dense_pretrained}"))
