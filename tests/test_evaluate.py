import json
import shutil
import subprocess
import sys

import pytest
from downstream_runs import FEW, KINDS, configure, metrics_of, table

from conmim_lightning.evaluate import _renamed
from conmim_lightning.evaluate import run as evaluate
from conmim_lightning.weights.checkpoint import read_checkpoint


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_of_dense_tasks_has_the_metrics_of_the_run(dense_runs, tmp_path, kind):
    metrics = evaluate(configure("evaluate", tmp_path, f"checkpoint={dense_runs}/{kind}"))
    assert metrics == pytest.approx(metrics_of(dense_runs / kind, "test/"), rel=1e-5, abs=1e-6)
    assert (tmp_path / "per_class.tsv").read_text() == (dense_runs / kind / "per_class.tsv").read_text()
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert pictures
    assert [path.read_bytes() for path in pictures] == [
        path.read_bytes() for path in sorted((dense_runs / kind / "pictures").iterdir())
    ]


def test_evaluation_may_differ_from_the_run(dense_runs, tmp_path):
    """Several scales and flips only in the test; a threshold of a detector."""
    changed = ["+inference.scales=[0.75,1.0]", "+inference.flip=true", "+inference.stride=null"]
    metrics = evaluate(configure("evaluate", tmp_path / "s", f"checkpoint={dense_runs}/segmentation", *changed))
    assert metrics["test/miou"] != metrics_of(dense_runs / "segmentation")["test/miou"]
    threshold = "+inference.score_threshold=0.99"
    metrics = evaluate(configure("evaluate", tmp_path / "d", f"checkpoint={dense_runs}/coco", threshold))
    assert metrics["test/box_recall"] == 0
    with pytest.raises(
        ValueError, match=r"inference\.flop does not exist in a run of SegmentationTask; did you mean flip"
    ):
        evaluate(configure("evaluate", tmp_path, f"checkpoint={dense_runs}/segmentation", "+inference.flop=1"))


@pytest.mark.ddp
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_devices_evaluate_every_image_of_dense_tasks_once(dense_runs, tmp_path, kind):
    """23 images: the two devices have 12 and 11."""
    single = evaluate(configure("evaluate", tmp_path / "one", f"checkpoint={dense_runs}/{kind}", "+data.eval_limit=23"))
    command = [
        sys.executable, "-m", "conmim_lightning.evaluate", f"checkpoint={dense_runs}/{kind}", "+data.eval_limit=23",
        "trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp", "trainer.precision=32-true",
        f"paths.run_dir={tmp_path}/two", f"predictions={tmp_path}/predictions",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert metrics_of(tmp_path / "two", "test/") == pytest.approx(single, rel=1e-5, abs=1e-6)
    if kind == "coco":
        entries = json.loads((tmp_path / "predictions").read_text())
        assert len({entry["image_id"] for entry in entries}) >= 20
    else:
        assert len(list((tmp_path / "predictions").iterdir())) == 23


@pytest.mark.parametrize("kind", ["finetuned", "linear", "frozen"])
def test_evaluation_has_the_metrics_of_the_run(labelled_runs, tmp_path, kind):
    folder, _ = labelled_runs
    metrics = evaluate(
        configure("evaluate", tmp_path, f"checkpoint={folder}/{kind}", f"predictions={tmp_path}/table.tsv")
    )
    expected = metrics_of(folder / kind, "test/")
    assert metrics == pytest.approx(expected, rel=1e-5)
    assert metrics_of(tmp_path) == metrics
    assert {"per_class.tsv", "confusion.png"} <= {path.name for path in tmp_path.iterdir()}
    rows = table(tmp_path / "table.tsv")
    assert len(rows) == 24
    correct = sum(row["class"] == row["prediction_1"] for row in rows) / len(rows)
    assert correct == pytest.approx(metrics["test/top1"])
    assert all(float(row["score_1"]) >= float(row["score_2"]) for row in rows)
    per_class = table(tmp_path / "per_class.tsv")
    assert sum(int(row["images"]) for row in per_class) == 24
    assert sum(int(row["images"]) * float(row["top1"]) for row in per_class if int(row["images"])) == pytest.approx(
        24 * correct, abs=0.01
    )


@pytest.mark.parametrize("kind", ["finetuned", "linear", "frozen"])
def test_images_without_labels_are_predicted(labelled_runs, tmp_path, scenes_root, kind):
    folder, _ = labelled_runs
    (tmp_path / "new").mkdir()
    for image in sorted((scenes_root / "ade20k" / "images" / "validation").iterdir())[:3]:
        shutil.copy(image, tmp_path / "new")
    (tmp_path / "new" / "broken.jpg").write_bytes(b"nothing")
    metrics = evaluate(
        configure("evaluate", tmp_path, f"checkpoint={folder}/{kind}", f"images={tmp_path}/new", "all_scores=true")
    )
    assert metrics == {}
    rows = table(tmp_path / "predictions.tsv")
    assert rows[0]["image"] == "broken.jpg"
    assert rows[0]["error"]
    assert rows[0]["prediction_1"] is None
    classes = read_checkpoint(folder / kind)["classes"]
    for row in rows[1:]:
        assert (row["class"], row["error"]) == ("", "")
        assert row["prediction_1"] in classes
        assert sum(float(row[f"score of {name}"]) for name in classes) == pytest.approx(1, abs=1e-4)


def test_other_images_of_the_same_classes(labelled_runs, tmp_path, scenes_root):
    folder, _ = labelled_runs
    shutil.copytree(scenes_root / "folders" / "train", tmp_path / "other" / "val")
    changes = [f"data.root={tmp_path}/other", "data.evaluation_batch_size=5"]
    metrics = evaluate(configure("evaluate", tmp_path / "e", f"checkpoint={folder}/finetuned", *changes))
    original = ("data.test=train", "data.evaluation_batch_size=5")
    expected = evaluate(configure("evaluate", tmp_path / "o", f"checkpoint={folder}/finetuned", *original))
    assert metrics["test/top1"] == expected["test/top1"]
    (tmp_path / "other" / "val" / "disc").rename(tmp_path / "other" / "val" / "disk")
    with pytest.raises(ValueError, match=r"has classes \['disk'\] that are not among"):
        evaluate(configure("evaluate", tmp_path / "e", f"checkpoint={folder}/finetuned", *changes))


def test_bad_evaluations(labelled_runs, tmp_path):
    folder, _ = labelled_runs
    with pytest.raises(ValueError, match=r"is of PretrainTask, which has no test; use it as backbone.weights"):
        evaluate(configure("evaluate", tmp_path, f"checkpoint={folder}/pretrained"))
    with pytest.raises(ValueError, match=r"'nowhere' does not exist"):
        evaluate(configure("evaluate", tmp_path, "checkpoint=nowhere"))
    with pytest.raises(ValueError, match=r"data.rot: .* takes no such argument"):
        evaluate(configure("evaluate", tmp_path, f"checkpoint={folder}/finetuned", "+data.rot=x"))


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.parametrize("kind", ["finetuned", "frozen"])
def test_two_devices_count_every_image_once(labelled_runs, tmp_path, kind):
    """Evaluated, and for frozen features also fitted, by two processes: the same metrics as by one."""
    folder, changes = labelled_runs
    if kind == "finetuned":
        words = ["conmim_lightning.evaluate", f"checkpoint={folder}/{kind}", "+data.batch_size=5"]
        words += ["trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp", "trainer.precision=32-true"]
    else:
        own = [item for item in changes if "schedule" not in item]
        words = ["conmim_lightning.train", "experiment=vit_b_frozen", "task/probes=all", FEW, *own, "logger=none"]
        words += ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
    done = subprocess.run(
        [sys.executable, "-m", *words, f"hydra.run.dir={tmp_path}/run"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    expected = metrics_of(folder / kind, "test/")
    metrics = metrics_of(tmp_path / "run", "test/")
    if kind == "frozen":  # the linear classifiers see the images in another order
        expected, metrics = ({n: v for n, v in m.items() if "linear" not in n} for m in (expected, metrics))
    assert metrics == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_records_with_an_old_name_are_still_read():
    old = {"exclude": "a.tsv", "source": {"_target_": "x.CocoSplits", "on_invalid_box": "drop", "masks": True}}
    assert _renamed(old) == {
        "exclude": {"train": "a.tsv"},
        "source": {"_target_": "x.CocoSplits", "on_invalid": "drop", "masks": True},
    }
    new = {"exclude": "a.tsv", "source": {"on_invalid": "drop"}}
    assert _renamed(new) == new
