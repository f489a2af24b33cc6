import json
from functools import partial

import pytest
import torch
from coco_files import content, source, write_images

from conmim_lightning.batches import Detections
from conmim_lightning.data.datamodules.dense import DenseDataModule
from conmim_lightning.data.datasets.detection import DetectionDataset
from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.sources.coco import CocoSplits
from conmim_lightning.data.transforms.detection import FitSquare, ScaleJitter


@pytest.fixture
def folder(tmp_path):
    source(write_images(tmp_path))
    (tmp_path / "annotations" / "instances_val.json").write_text(json.dumps(content()))
    return tmp_path


def module(folder, **changes) -> DenseDataModule:
    dataset = partial(
        DetectionDataset,
        transform=ScaleJitter(size=64, mean=[0.5] * 3),
        evaluation_transform=FitSquare(size=64, mean=[0.5] * 3),
    )
    arguments = {
        "root": str(folder), "source": CocoSplits(), "dataset": dataset, "num_classes": 3, "size": 64,
        "decoder": Decoder(), "mean": [0.5] * 3, "std": [0.5] * 3, "batch_size": 1, "seed": 0, "num_workers": 0,
    }  # fmt: skip
    return DenseDataModule(**(arguments | changes))


def test_category_ids_are_those_of_training(folder):
    """Also in the results of images without annotations, whose names replace their ids."""
    (folder / "exclude.tsv").write_text("nothing.png\n")
    data = module(folder, subset_count=1, predict_root=str(folder / "val"), exclude=str(folder / "exclude.tsv"))
    data.setup("fit")
    data.setup("predict")
    assert data.category_ids == [3, 7, 90]
    box, score, label = torch.tensor([[1.0, 2.0, 5.0, 9.0]]), torch.tensor([0.5]), torch.tensor([2])
    detections = Detections(box, score, label, torch.zeros(0, 9, 9))
    assert data.coco_results(0, detections, testing=False) == [
        {"image_id": "2.png", "category_id": 90, "bbox": [1.0, 2.0, 4.0, 7.0], "score": 0.5, "category": "cow"}
    ]
    data.setup("test")
    assert data.coco_results(2, detections, testing=True)[0]["image_id"] == 9


def test_a_subset_and_a_limit(folder):
    data = module(folder, num_classes=None, subset_count=1, eval_limit=2)
    data.setup("fit")
    assert data.num_classes == 3
    assert len(data.source) == 1
    assert [batch.index.tolist() for batch in data.val_dataloader()] == [[0], [1]]
    assert data.pixels("val", 0).shape == (3, 50, 40)


def test_faults_of_annotations_are_named(folder):
    data = module(folder)
    coco = data.open_source()
    assert data.annotation_fault(coco, 1, 50, 40) == ""
    assert "its annotation says 40 x 50" in data.annotation_fault(coco, 1, 30, 30)


def test_bad_numbers(folder):
    with pytest.raises(ValueError, match="eval_limit must be at least 1, got 0"):
        module(folder, eval_limit=0)
