import os
import pickle
from pathlib import Path

import pytest
from image_tree import names, touch

from conmim_lightning.data.sources.folder import FolderSource


def test_any_depth_any_case_in_order(tmp_path: Path):
    touch(tmp_path, "b.JPG", "a/deep/er/x.png", "a/b.webp", "notes.txt", "c.jpg.part", "日本/ü x.jpeg")
    source = FolderSource(tmp_path)
    assert names(source) == ["b.JPG", "a/b.webp", "a/deep/er/x.png", "日本/ü x.jpeg"]
    assert source.path(0) == tmp_path / "b.JPG"
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


def test_an_image_outside_of_the_class_folders(tmp_path: Path):
    with pytest.raises(ValueError, match=r"'stray.jpg' is in the root"):
        FolderSource(touch(tmp_path, "cat/1.jpg", "stray.jpg"), labelled=True)


def test_the_index_is_used_until_a_folder_changes(tmp_path: Path, monkeypatch):
    root, index_dir = touch(tmp_path / "set", "a/1.jpg", "b/2.jpg"), str(tmp_path / "index")
    settle(root)
    assert names(FolderSource(root, index_dir=index_dir)) == ["a/1.jpg", "b/2.jpg"]
    with monkeypatch.context() as patch:
        patch.setattr("conmim_lightning.data.sources.folder.scan", None)  # calling it fails
        source = FolderSource(root, labelled=True, index_dir=index_dir)
        assert names(source) == ["a/1.jpg", "b/2.jpg"]
        assert [source.label(0), source.label(1)] == [0, 1]
    touch(root, "a/0.jpg")
    assert names(FolderSource(root, index_dir=index_dir)) == ["a/0.jpg", "a/1.jpg", "b/2.jpg"]
    settle(root)
    (root / "b" / "2.jpg").unlink()
    assert names(FolderSource(root, index_dir=index_dir)) == ["a/0.jpg", "a/1.jpg"]
    settle(root)
    (root / "a" / "1.jpg").rename(root / "a" / "9.jpg")
    assert names(FolderSource(root, index_dir=index_dir)) == ["a/0.jpg", "a/9.jpg"]


def settle(root: Path) -> None:
    """Make all folders old; changes within the last seconds are not trusted."""
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        os.utime(folder, (1e9, 1e9))


def test_a_folder_that_changed_just_now_is_not_trusted(tmp_path: Path):
    """A second change within the same tick of the file system's clock would otherwise be missed."""
    root, index_dir = touch(tmp_path / "set", "1.jpg"), str(tmp_path / "index")
    FolderSource(root, index_dir=index_dir)
    before = os.stat(root).st_mtime_ns
    touch(root, "2.jpg")
    os.utime(root, ns=(before, before))
    assert len(FolderSource(root, index_dir=index_dir)) == 2


def test_a_damaged_index_is_rebuilt(tmp_path: Path):
    root, index_dir = touch(tmp_path / "set", "1.jpg"), tmp_path / "index"
    settle(root)
    FolderSource(root, index_dir=str(index_dir))
    (path,) = index_dir.iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    assert len(FolderSource(root, index_dir=str(index_dir))) == 1


def test_workers_receive_the_name_of_the_index(tmp_path: Path):
    root = touch(tmp_path / "set", *(f"{index % 7}/{index:05d}.jpg" for index in range(3000)))
    source = FolderSource(root, index_dir=str(tmp_path / "index"))
    sent = pickle.dumps(source)
    assert len(sent) < 2000
    assert names(pickle.loads(sent)) == names(source)


def test_an_index_within_the_folder_is_used(tmp_path: Path, monkeypatch):
    root = touch(tmp_path / "data", "images/1.jpg")
    index_dir = str(root / "index")
    FolderSource(root, index_dir=index_dir)
    settle(root)
    FolderSource(root, index_dir=index_dir)
    settle(root)
    monkeypatch.setattr("conmim_lightning.data.sources.folder.scan", None)
    assert names(FolderSource(root, index_dir=index_dir)) == ["images/1.jpg"]
