from pathlib import Path

import pytest
from imagenet_folder import IDS, write_imagenet

from conmim_lightning.data.sources.imagenet import imagenet_source, wordnet_ids


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_imagenet(tmp_path)


def test_the_standard_order():
    assert len(wordnet_ids()) == 1000
    assert [wordnet_ids().index(name) for name in IDS] == [292, 0, 999]
    assert list(wordnet_ids()) == sorted(wordnet_ids())


def test_a_list_without_labels(root: Path):
    (root / "bare.txt").write_text("n02129604/n02129604_0.JPEG\n")
    with pytest.raises(ValueError, match="has no labels; a line is a path, a space and a number from 0 to 999"):
        imagenet_source(root, "train", image_list="bare.txt", index_dir=None)
