import json
import re

import numpy as np
import pytest
from downstream_runs import KINDS, configure, export
from PIL import Image

from conmim_lightning.visualization.figures import KINDS as KINDS_OF_FEATURES
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
    paths = visualize(configure("visualize", tmp_path, f"checkpoint={dense_runs}/{kind}", "pictures=3"))
    assert [path.name[:6] for path in paths] == ["000000", "000008", "000016"]


def test_a_pretraining_run_has_all_kinds(dense_pretrained, tmp_path):
    paths = visualize(configure("visualize", tmp_path, f"checkpoint={dense_pretrained}", "pictures=2", "gallery=8"))
    assert [path.name for path in paths] == [f"{kind}.png" for kind in KINDS_OF_FEATURES]
    assert all(path.stat().st_size > 5000 for path in paths)


def test_two_models_and_a_format_for_papers(dense_pretrained, scenes_root, tmp_path):
    changes = ["against=random", "file_format=svg", "kind=[attention,pca]", "pictures=2", "heads=[0]", "layer=0"]
    images = f"images={scenes_root}/folders/val"
    paths = visualize(configure("visualize", tmp_path, f"checkpoint={dense_pretrained}", images, *changes))
    assert [path.name for path in paths] == ["attention.svg", "pca.svg"]
    text = paths[0].read_text()
    assert text.startswith("<?xml")
    assert text.count("<!-- head 0 -->") == 4, "two images of two models"


def test_an_exported_model(dense_pretrained, scenes_root, tmp_path):
    exported = export(configure("export", tmp_path, f"checkpoint={dense_pretrained}", f"output={tmp_path}/out"))
    images = f"images={scenes_root}/folders/val"
    paths = visualize(configure("visualize", tmp_path / "v", f"checkpoint={exported}", images, "kind=[similarity]"))
    assert [path.name for path in paths] == ["similarity.png"]
    with pytest.raises(ValueError, match="images= is needed, as the model has no record of its images"):
        visualize(configure("visualize", tmp_path / "v", f"checkpoint={exported}"))


@pytest.mark.parametrize("run", ["finetuned", "frozen"])
def test_a_classifier_has_all_kinds_but_queries(labelled_runs, tmp_path, run):
    options = [f"checkpoint={labelled_runs[0]}/{run}", "pictures=2", "gallery=4", "neighbors=2"]
    paths = visualize(configure("visualize", tmp_path, *options))
    assert [path.stem for path in paths] == ["attention", "similarity", "pca", "neighbors"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["kind=[queries]", "against=random"], "kind must be of attention, similarity, pca, neighbors for this model"),
        (["kind=[predictions]"], "kind must be of attention, similarity, pca, neighbors, queries for this model"),
        (["kind=[atention]"], "kind: a list of values, each one of predictions, attention, similarity"),
        (["kind=[similarity]", "patch=[9,9]"], "patch must be [row, column] within 4 x 4 patches, got [9, 9]"),
        (["file_format=gif"], "file_format: one of png, pdf, svg is needed, got 'gif'"),
        (["pictures=0"], "pictures must be at least 1, got 0"),
        (["gallery=0"], "gallery must be at least 1, got 0"),
        (["kind=[attention]", "heads=[]"], "heads must name at least one head"),
    ],
)
def test_mistakes(dense_pretrained, tmp_path, changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        visualize(configure("visualize", tmp_path, f"checkpoint={dense_pretrained}", *changes))


def test_options_that_a_segmenter_does_not_use_are_rejected(dense_runs, tmp_path):
    options = [f"checkpoint={dense_runs}/segmentation", "file_format=pdf", "against=random"]
    with pytest.raises(ValueError, match="against, file_format concern features"):
        visualize(configure("visualize", tmp_path, *options))


def test_a_segmenter_has_predictions_alone(dense_runs, tmp_path):
    with pytest.raises(
        ValueError, match=r"kind must be \[predictions\] for a segmenter or detector, got \['attention'\]"
    ):
        visualize(configure("visualize", tmp_path, f"checkpoint={dense_runs}/segmentation", "kind=[attention]"))
