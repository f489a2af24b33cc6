import json

import numpy as np
import pytest
from wandb_record import read_record

from conmim_lightning.loggers.media import BoxLabel, MediaLogger, Picture
from conmim_lightning.loggers.wandb import RunWandbLogger, log_artifact


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """What a logger with two probes and one table leaves behind."""
    folder = tmp_path_factory.mktemp("wandb")
    logger = RunWandbLogger(
        save_dir=folder, project="p", id="1a", group="g", job_type="pretrain", tags=["x"], offline=True
    )
    image = np.zeros((6, 8, 3), np.uint8)
    classes = np.array([[0, 1, -1, 0]] * 3)
    boxes = {"detections": [BoxLabel((1, 2, 3, 4), 1, 0.75)], "annotations": [BoxLabel((0, 0, 2, 2), 0)], "none": []}
    for step, value in ((0, 0.5), (9, 0.7), (19, 0.6)):
        logger.log_metrics({"val/knn_top1": value, "epoch": step // 10}, step)
        picture = Picture(image, "cat.jpg", {"prediction": classes}, boxes, ["cat", "dog"])
        logger.log_pictures("val/predictions", [picture], step)
    logger.log_rows("test/per_class", ["class", "top1"], [["cat", 0.5]], 19)
    logger.close()
    return folder, read_record(folder)


def test_group_job_type_and_tags(record):
    run = record[1].run
    assert (run.run_id, run.project, run.run_group, run.job_type, list(run.tags)) == ("1a", "p", "g", "pretrain", ["x"])


def test_charts_have_the_step_as_axis_and_summaries_the_best_and_last_value(record):
    definitions = record[1].definitions
    assert definitions["*"].step_metric == "trainer/global_step"
    assert definitions["epoch"].step_metric == "trainer/global_step"
    assert (definitions["val/*"].summary.max, definitions["val/*"].summary.last) == (True, True)
    assert (definitions["val/loss"].summary.min, definitions["val/loss"].summary.max) == (True, False)
    assert record[1].column("epoch") == [(0, 0), (9, 0), (19, 1)]


def test_pictures_have_a_slider_over_steps(record):
    folder, content = record
    logged = content.column("val/predictions")
    assert [step for step, _ in logged] == [0, 9, 19]
    value = logged[0][1]
    assert (value["_type"], value["count"], value["captions"]) == ("images/separated", 1, ["cat.jpg"])
    assert all(list(folder.rglob(f"files/{name}")) for name in value["filenames"])


def test_class_maps_and_boxes_are_overlays(record):
    folder, content = record
    value = content.column("val/predictions")[0][1]
    path = next(folder.rglob(f"files/{value['all_masks'][0]['prediction']['path']}"))
    from PIL import Image

    assert np.asarray(Image.open(path)).tolist() == [[0, 1, 2, 0]] * 3, "no class has the number after the last"
    boxes = {
        name: json.loads(next(folder.rglob(f"files/{box['path']}")).read_text())
        for name, box in value["all_boxes"][0].items()
    }
    assert set(boxes) == {"detections", "annotations"}
    box = boxes["detections"]["box_data"][0]
    assert box["position"] == {"minX": 1, "maxX": 3, "minY": 2, "maxY": 4}
    assert (box["class_id"], box["box_caption"], box["scores"]) == (1, "dog 0.75", {"score": 0.75})


def test_tables(record):
    folder, content = record
    value = content.column("test/per_class")[0][1]
    table = json.loads(next(folder.rglob(f"files/{value['path']}")).read_text())
    assert (table["columns"], table["data"]) == (["class", "top1"], [["cat", 0.5]])


def test_media_can_be_turned_off():
    logger = RunWandbLogger(offline=True, log_media=False)
    assert isinstance(logger, MediaLogger)
    assert not logger.log_media


def test_an_artifact_continues_the_run(tmp_path):
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "model.safetensors").write_bytes(b"weights")
    settings = {"id": "1a", "project": "p", "mode": "offline"}
    log_artifact(
        tmp_path / "export", name="my-vit", kind="model", folder=str(tmp_path), settings=settings, metadata={"step": 3}
    )
    content = read_record(tmp_path)
    assert content.run.run_id == "1a"
    assert [(each.name, each.type, json.loads(each.metadata)) for each in content.artifacts] == [
        ("my-vit", "model", {"step": 3})
    ]
