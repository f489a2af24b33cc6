from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conmim_lightning.data.downloads import cifar10
from conmim_lightning.data.downloads.cifar10 import CLASSES, prepare_cifar10


class Downloaded:
    """Three images per split, in place of torchvision's download."""

    calls = 0

    def __init__(self, root, *, train, download):
        Downloaded.calls += 1
        Path(root).mkdir(exist_ok=True)
        assert download
        self.rows = [
            (Image.fromarray(np.full((32, 32, 3), 10 * label, np.uint8)), label) for label in (3, 3, *range(10))
        ]

    def __iter__(self):
        return iter(self.rows)


@pytest.fixture(autouse=True)
def _offline(monkeypatch):
    Downloaded.calls = 0
    monkeypatch.setattr(cifar10, "CIFAR10", Downloaded)


def test_a_missing_folder_is_downloaded_once(tmp_path):
    for _ in range(2):
        prepare_cifar10(tmp_path / "cifar10")
    assert Downloaded.calls == 2, "one per split"
    assert sorted(path.name for path in (tmp_path / "cifar10" / "test").iterdir()) == list(CLASSES)
    cats = sorted((tmp_path / "cifar10" / "train" / "cat").iterdir())
    assert [path.name for path in cats] == ["0000.png", "0001.png", "0002.png"]
    assert np.asarray(Image.open(cats[0]))[0, 0].tolist() == [30, 30, 30]
    assert not list(tmp_path.rglob("archive"))


def test_a_folder_that_is_there_is_used(tmp_path):
    for split in ("train", "test"):
        for name in CLASSES:
            (tmp_path / split / name).mkdir(parents=True)
    prepare_cifar10(tmp_path)
    assert Downloaded.calls == 0
    (tmp_path / "test" / "frog").rmdir()
    with pytest.raises(ValueError, match=r"test' lacks the classes frog"):
        prepare_cifar10(tmp_path)


def test_a_failed_download_is_one_message(tmp_path, monkeypatch):
    def fail(*args, **others):
        raise OSError("no network")

    monkeypatch.setattr(cifar10, "CIFAR10", fail)
    with pytest.raises(ValueError, match=r"cannot be downloaded: no network; name a folder .* with data\.root="):
        prepare_cifar10(tmp_path / "cifar10")
    assert not (tmp_path / "cifar10").exists()


def test_the_classes_are_those_of_torchvision():
    from torchvision.datasets import CIFAR10

    assert CIFAR10.url.endswith("cifar-10-python.tar.gz"), "its list of classes is in the archive"
    assert sorted(CLASSES) == list(CLASSES)
