from pathlib import Path

import pytest

from conmim_lightning.data.ade20k import PairSource
from conmim_lightning.data.folder import FolderSource


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def test_any_depth_any_case_in_order(tmp_path: Path):
    touch(tmp_path, "b.JPG", "a/deep/er/x.png", "a/b.webp", "notes.txt", "c.jpg.part", "日本/ü x.jpeg")
    source = FolderSource(tmp_path)
    assert source.paths == ["a/b.webp", "a/deep/er/x.png", "b.JPG", "日本/ü x.jpeg"]
    assert source.path(2) == tmp_path / "b.JPG"
    assert source.classes == []


def test_labels_are_the_first_folders(tmp_path: Path):
    source = FolderSource(touch(tmp_path, "dog/1.jpg", "cat/2.jpg", "cat/more/3.jpg"), labelled=True)
    assert source.classes == ["cat", "dog"]
    assert [source.label(index) for index in range(3)] == [0, 0, 1]


def test_missing_and_empty(tmp_path: Path):
    with pytest.raises(ValueError, match="nowhere' does not exist"):
        FolderSource(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no image below"):
        FolderSource(tmp_path)
    with pytest.raises(ValueError, match=r"no image below.*jpg, .jpeg"):
        FolderSource(touch(tmp_path, "readme.md"))
    with pytest.raises(ValueError, match="is not a folder"):
        FolderSource(tmp_path / "readme.md")


def test_an_image_outside_the_class_folders(tmp_path: Path):
    with pytest.raises(ValueError, match=r"'stray.jpg' lies in the root"):
        FolderSource(touch(tmp_path, "cat/1.jpg", "stray.jpg"), labelled=True)


def test_a_loop_of_links_ends(tmp_path: Path):
    touch(tmp_path, "a/1.jpg")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert len(FolderSource(tmp_path)) == 1


def test_pairs(tmp_path: Path):
    root = touch(tmp_path, "images/training/a.jpg", "annotations/training/a.png")
    assert PairSource(root, "training").paths(0) == (
        tmp_path / "images/training/a.jpg",
        tmp_path / "annotations/training/a.png",
    )
    touch(tmp_path, "images/training/b.jpg")
    with pytest.raises(ValueError, match=r"1 of 2 images .* first is 'b.jpg'; expected .*b.png"):
        PairSource(root, "training")
