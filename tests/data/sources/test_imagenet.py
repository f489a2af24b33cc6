from pathlib import Path

import pytest
from PIL import Image

from conmim_lightning.data.sources.imagenet import imagenet_source, wordnet_ids

IDS = ("n02129604", "n01440764", "n15075141")  # tiger, tench, toilet tissue: 292, 0, 999


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Folders named by WordNet id, with ten training and two validation images each, and the lists of them."""
    for split, count in (("train", 10), ("val", 2)):
        lines = []
        for name in IDS:
            for index in range(count):
                path = tmp_path / split / name / f"{name}_{index}.JPEG"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (40, 30), (index, 0, 0)).save(path)
                lines.append(f"{name}/{path.name} {wordnet_ids().index(name)}")
        (tmp_path / f"{split}_map.txt").write_text("\n".join(lines))
    return tmp_path


def test_the_standard_order():
    assert len(wordnet_ids()) == 1000
    assert [wordnet_ids().index(name) for name in IDS] == [292, 0, 999]
    assert list(wordnet_ids()) == sorted(wordnet_ids())


def test_a_list_without_labels(root: Path):
    (root / "bare.txt").write_text("n02129604/n02129604_0.JPEG\n")
    with pytest.raises(ValueError, match="has no labels; a line is a path, a space and a number from 0 to 999"):
        imagenet_source(root, "train", image_list="bare.txt", index_dir=None)
