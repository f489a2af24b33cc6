import json
from functools import partial

import numpy as np
import pytest
import torch
from coco_files import annotation, content, source, with_annotations, write_images
from PIL import Image

from conmim_lightning.batches import Detections
from conmim_lightning.data.datamodules.dense import DenseDataModule
from conmim_lightning.data.datasets.detection import DetectionDataset
from conmim_lightning.data.datasets.segmentation import SegmentationDataset
from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.sources.class_maps import SegmentationSplits
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


@pytest.mark.filterwarnings("ignore:.*has no objects of 1 of 3 classes")
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


@pytest.mark.filterwarnings("ignore:.*has no objects of 1 of 3 classes")
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
    assert data.annotation_check(coco, 1, 50, 40).fault == ""
    assert data.annotation_check(coco, 1, 50, 40).counts.tolist() == [0, 1, 1]
    assert "its annotation says 40 x 50" in data.annotation_check(coco, 1, 30, 30).fault


def test_bad_numbers(folder):
    with pytest.raises(ValueError, match="eval_limit must be at least 1, got 0"):
        module(folder, eval_limit=0)


def test_the_summary_counts_the_objects(folder):
    data = module(folder)
    with pytest.warns(UserWarning, match="has no objects of 1 of 3 classes: 'cat'"):
        data.setup("fit")
    assert "objects per class: dog 1, cow 1, cat 0" in data.summary()


@pytest.mark.filterwarnings("ignore:.*has no objects of 1 of 3 classes")
def test_a_split_for_evaluation_without_objects_is_said(folder):
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(content(annotations=[])))
    with pytest.warns(UserWarning, match=r"val: there are no objects of any class, so that its metrics say nothing"):
        module(folder).setup("fit")


def test_inspection_lists_all_faults(folder):
    """An invalid box, and a missing file, which are two images; without it, the first one ends the run."""
    faulty = with_annotations(annotation(1, 9, 90, [3, 3, 0, 5]), annotation(2, 5, 3, [10, 10, 20, 20], iscrowd="0"))
    source(folder, faulty, on_invalid="drop")
    data = module(folder)
    with pytest.raises(ValueError, match="2 invalid annotations"):
        data.open_source()
    data.report_faults()
    coco = data.open_source()
    assert "is empty" in data.annotation_check(coco, 2, 50, 40).fault
    assert "iscrowd is '0'" in data.annotation_check(coco, 0, 50, 40).fault
    assert data.annotation_check(coco, 1, 50, 40).fault == ""


def test_faults_of_excluded_images_do_not_matter(folder):
    source(
        folder,
        with_annotations(annotation(1, 9, 90, [3, 3, 0, 5]), annotation(2, 5, 3, [10, 10, 20, 20])),
        on_invalid="drop",
    )
    (folder / "exclude.tsv").write_text("9.png\n")
    coco = module(folder, exclude=str(folder / "exclude.tsv")).open_source()
    assert [coco.name(index) for index in range(len(coco))] == ["5.png"]


@pytest.mark.filterwarnings("ignore:.*has no pixels of 1 of 2 classes")
@pytest.mark.parametrize("ignored", [None, [255]])
def test_masks_of_0_and_255_never_train_nothing_in_silence(tmp_path, ignored):
    for kind, mode in (("images", "RGB"), ("maps", "L")):
        for split in ("train", "val"):
            for number in range(2):
                path = tmp_path / kind / split / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.random.default_rng(number).integers(0, 2, (32, 32)) * 255
                Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(path)
    splits = SegmentationSplits(num_classes=2, maps="maps/{split}", first_class=0, ignored=ignored)
    data = module(
        tmp_path, source=splits, num_classes=2, dataset=partial(SegmentationDataset, transform=lambda *x: x[:2])
    )
    message = r"only the values 0 and 255, and 255 is ignored: data\.source\.values="
    if ignored is None:
        with pytest.raises(ValueError, match=message):
            data.setup("fit")
        return
    with pytest.warns(UserWarning, match=message):
        data.setup("fit")
