import shutil
from pathlib import Path

import pytest
from PIL import Image

from conmim_lightning.data.datasets.probes import ProbeData
from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.sources.folder import FolderSource


def probe_data(**changes) -> ProbeData:
    settings = {"decoder": Decoder(), "size": 32, "batch_size": 3, "limits": {"knn": None, "dense": 5}}
    return ProbeData(**(settings | changes))


@pytest.fixture
def class_map_root(tmp_path: Path, scenes_root: Path) -> Path:
    shutil.copytree(scenes_root / "ade20k", tmp_path / "ade20k")
    return tmp_path / "ade20k"


def test_squares_with_labels_and_class_maps(scenes_root: Path):
    data = probe_data()
    assert data.query_source() is None
    data.add_labelled_folder(scenes_root / "folders", None)
    labelled = data.datasets["knn"]["query"]
    assert data.query_source() is labelled.source
    image, label, index, _ = labelled[3]
    assert image.shape == (3, 32, 32)
    assert label == labelled.source.label(3)
    assert index == 3
    data.add_class_maps(scenes_root / "ade20k", 6)
    maps = data.datasets["dense"]["query"]
    assert data.query_source() is maps.source
    assert maps[0].image.shape == (3, 32, 32)
    assert maps[0].label.shape == (32, 32)
    assert maps[0].label.min() == -1, "background"
    assert 0 <= maps[0].label.max() <= 5


def test_class_maps_of_images_in_chosen_formats(class_map_root: Path):
    for path in (class_map_root / "images").rglob("*.jpg"):
        path.rename(path.with_suffix(".tga"))
    with pytest.raises(ValueError, match="no image"):
        probe_data().add_class_maps(class_map_root, 6)
    data = probe_data(decoder=Decoder(formats=["tga"]))
    data.add_class_maps(class_map_root, 6)
    assert data.datasets["dense"]["query"].source.name(0).endswith(".tga")


def test_loaders_have_the_images_of_a_device_up_to_the_limit(scenes_root: Path):
    data = probe_data()
    data.add_labelled_folder(scenes_root / "folders", None)
    data.add_class_maps(scenes_root / "ade20k", 6)
    indices = {
        (probe, role): [index for batch in loader for index in batch.index.tolist()]
        for probe, role, loader in data.loaders(num_workers=0, rank=1, num_devices=2)
    }
    assert indices["knn", "query"] == list(range(1, 24, 2))
    assert indices["dense", "reference"] == [9, 28]
    assert list(indices) == [("knn", "reference"), ("knn", "query"), ("dense", "reference"), ("dense", "query")]


def test_broken_images_are_marked(scenes_root: Path, tmp_path: Path):
    shutil.copytree(scenes_root / "folders", tmp_path / "folders")
    source = FolderSource(tmp_path / "folders" / "train", labelled=True)
    for path in map(source.path, (10, 11, 12)):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    squares = probe_data().squares(source)
    assert [bool(squares[index].broken) for index in range(9, 14)] == [False, True, True, True, False]


def test_damaged_class_maps_are_marked(class_map_root: Path):
    data = probe_data()
    data.add_class_maps(class_map_root, 6)
    maps = data.datasets["dense"]["query"]
    path = maps.source.pairs.map_path(0)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], content.replace(b"IDAT", b"IDAX"), b""):
        path.write_bytes(damaged)
        assert maps[0].broken.startswith(maps.source.name(0))


def test_class_maps_with_colours_are_rejected(class_map_root: Path):
    data = probe_data()
    data.add_class_maps(class_map_root, 6)
    maps = data.datasets["dense"]["query"]
    Image.new("RGB", (64, 64)).save(maps.source.pairs.map_path(0))
    with pytest.raises(ValueError, match="pixel mode RGB; one integer per pixel is needed"):
        maps[0]
    Image.new("I;16", (64, 64)).save(maps.source.pairs.map_path(0))
    assert maps[0].label.max() == -1, "16 bits are integers, too"
