import platform
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from conmim_lightning.data.sources.class_maps import ImageMapPairs
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.synthetic.scene_files import run_lengths, write_scenes
from conmim_lightning.data.synthetic.scenes import SHAPES, draw_scene


def test_layouts(scenes_root: Path):
    for split, pairs, count, first in (("train", "training", 48, 0), ("val", "validation", 24, 48)):
        labelled = FolderSource(scenes_root / "folders" / split, labelled=True)
        assert len(labelled) == len(ImageMapPairs(scenes_root / "ade20k", pairs)) == count
        for index in range(len(labelled)):
            number = int(labelled.path(index).stem.split("_")[1])
            assert first <= number < first + count
            assert labelled.classes[labelled.label(index)] == SHAPES[draw_scene(3, number, 64).label]


def test_images_and_class_maps_are_the_scene(scenes_root: Path):
    pairs = ImageMapPairs(scenes_root / "ade20k", "validation")
    image_path, map_path = pairs.images.path(5), pairs.map_path(5)
    scene = draw_scene(3, int(image_path.stem.split("_")[1]), 64)
    assert np.array_equal(np.asarray(Image.open(map_path)), scene.class_map)
    difference = np.asarray(Image.open(image_path)).astype(int) - scene.image
    assert np.abs(difference).mean() < 6  # JPEG


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of pycocotools, with numpy 2
def test_coco_as_pycocotools_reads_it(scenes_root: Path, capsys):
    coco = COCO(scenes_root / "coco" / "annotations" / "instances_val.json")
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(SHAPES)
    for image_id in coco.getImgIds():
        scene = draw_scene(3, image_id - 1, 64)
        entries = coco.loadAnns(coco.getAnnIds(image_id))
        assert len(entries) == len(scene.objects)
        for entry, scene_object in zip(entries, scene.objects, strict=True):
            mask = coco.annToMask(entry).astype(bool)
            assert np.array_equal(mask, scene_object.mask)
            box = coco_mask.toBbox(coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))))
            assert entry["bbox"] == box.tolist()
            assert entry["area"] == mask.sum()
            assert entry["category_id"] == scene_object.label + 1


@pytest.mark.parametrize("flat", [[0, 0, 1, 1, 0, 1], [1, 0, 0, 0, 0, 0], [1] * 6, [0] * 6])
def test_run_lengths(flat):
    mask = np.array(flat, bool).reshape(3, 2, order="F")
    counts = run_lengths(mask)
    rebuilt = np.concatenate([[i % 2] * count for i, count in enumerate(counts)])
    assert np.array_equal(rebuilt, flat)


def test_the_same_collection_is_kept_and_another_rejected(tmp_path: Path):
    arguments = {"train": 2, "val": 1, "size": 32, "seed": 0}
    write_scenes(tmp_path / "s", **arguments)
    image = next((tmp_path / "s").rglob("*.jpg"))
    image.write_bytes(b"touched")
    write_scenes(tmp_path / "s", **arguments)
    assert image.read_bytes() == b"touched"
    with pytest.raises(ValueError, match=r"holds other created data: .*'train': 2"):
        write_scenes(tmp_path / "s", **(arguments | {"train": 3}))


def test_files_of_an_interrupted_process_are_removed(tmp_path: Path):
    partial = tmp_path / f"s.partial-{platform.node()}-2147480000"
    left = partial / "folders" / "train" / "disc" / "scene_0000099.jpg"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    write_scenes(tmp_path / "s", train=2, val=1, size=32, seed=0)
    names = [path.name for path in (tmp_path / "s" / "folders").rglob("*.jpg")]
    assert sorted(names) == ["scene_0000000.jpg", "scene_0000001.jpg", "scene_0000002.jpg"]
    assert not partial.exists()


def test_a_folder_with_other_files_is_rejected(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="files that were not created here"):
        write_scenes(tmp_path, train=1, val=1, size=32, seed=0)


@pytest.mark.parametrize("changes", [{"train": 0}, {"val": 0}, {"size": 8}, {"seed": -1}])
def test_bad_arguments(tmp_path: Path, changes):
    with pytest.raises(ValueError, match="need"):
        write_scenes(tmp_path / "s", **({"train": 1, "val": 1, "size": 32, "seed": 0} | changes))
    assert not (tmp_path / "s").exists()
