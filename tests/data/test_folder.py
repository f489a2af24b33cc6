import os
import pickle
from pathlib import Path

import pytest

from conmim_lightning.data.ade20k import PairSource
from conmim_lightning.data.folder import FolderSource


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def names(source) -> list[str]:
    return [source.name(index) for index in range(len(source))]


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


def test_an_image_outside_the_class_folders(tmp_path: Path):
    with pytest.raises(ValueError, match=r"'stray.jpg' lies in the root"):
        FolderSource(touch(tmp_path, "cat/1.jpg", "stray.jpg"), labelled=True)


def test_a_loop_of_links_ends(tmp_path: Path):
    touch(tmp_path, "a/1.jpg")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert len(FolderSource(tmp_path)) == 1


def test_pairs(tmp_path: Path):
    root = touch(tmp_path, "images/training/a.jpg", "annotations/training/a.png")
    pairs = PairSource(root, "training")
    assert pairs.images.path(0) == tmp_path / "images/training/a.jpg"
    assert pairs.map_path(0) == tmp_path / "annotations/training/a.png"
    touch(tmp_path, "images/training/b.jpg")
    with pytest.raises(ValueError, match=r"1 of 2 images .* first is 'b.jpg'; expected .*b.png"):
        PairSource(root, "training")


def test_the_index_is_used_until_a_folder_changes(tmp_path: Path, monkeypatch):
    root, index_dir = touch(tmp_path / "set", "a/1.jpg", "b/2.jpg"), str(tmp_path / "index")
    settle(root)
    assert names(FolderSource(root, index_dir=index_dir)) == ["a/1.jpg", "b/2.jpg"]
    with monkeypatch.context() as patch:
        patch.setattr("conmim_lightning.data.folder.scan", None)  # calling it would be an error
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
    """As if all folders had been changed long ago; a change within the last seconds is not trusted."""
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        os.utime(folder, (1e9, 1e9))


def test_a_folder_that_changed_just_now_is_not_trusted(tmp_path: Path):
    """A second change within the same tick of the file system's clock would otherwise go unseen."""
    root, index_dir = touch(tmp_path / "set", "1.jpg"), str(tmp_path / "index")
    FolderSource(root, index_dir=index_dir)
    before = os.stat(root).st_mtime_ns
    touch(root, "2.jpg")
    os.utime(root, ns=(before, before))
    assert len(FolderSource(root, index_dir=index_dir)) == 2


def test_a_damaged_index_is_made_anew(tmp_path: Path):
    root, index_dir = touch(tmp_path / "set", "1.jpg"), tmp_path / "index"
    settle(root)
    FolderSource(root, index_dir=str(index_dir))
    (path,) = index_dir.iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    assert len(FolderSource(root, index_dir=str(index_dir))) == 1


def test_workers_get_the_name_of_the_index(tmp_path: Path):
    root = touch(tmp_path / "set", *(f"{number % 7}/{number:05d}.jpg" for number in range(3000)))
    source = FolderSource(root, index_dir=str(tmp_path / "index"))
    sent = pickle.dumps(source)
    assert len(sent) < 2000
    assert names(pickle.loads(sent)) == names(source)


def test_links(tmp_path: Path):
    root = touch(tmp_path / "set", "a/1.jpg")
    touch(tmp_path / "elsewhere", "3.jpg", "more/4.jpg")
    (root / "2.jpg").symlink_to(tmp_path / "elsewhere" / "3.jpg")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    assert names(FolderSource(root)) == ["2.jpg", "a/1.jpg", "linked/3.jpg", "linked/more/4.jpg"]
    refusing = FolderSource(root, follow_links=False)
    assert names(refusing) == ["a/1.jpg"]
    assert refusing.notes == ["2 links were passed over (follow_links=false)"]


def test_other_files_are_counted(tmp_path: Path):
    source = FolderSource(touch(tmp_path, "1.jpg", "2.txt", "3"))
    assert source.notes == ["2 files were passed over: their names do not end like an image's"]


def test_excluded_images_are_left_out(tmp_path: Path):
    source = FolderSource(touch(tmp_path, "a/1.jpg", "a/2.jpg", "b/3.jpg"), labelled=True)
    rest = source.without({"a/2.jpg", "not there.jpg"})
    assert names(rest) == ["a/1.jpg", "b/3.jpg"]
    assert [rest.label(index) for index in range(2)] == [0, 1]
    with pytest.raises(ValueError, match=r"nothing of .* is left after the exclusion of 3 names"):
        source.without({"a/1.jpg", "a/2.jpg", "b/3.jpg"})


def test_an_unreadable_folder_is_told(tmp_path: Path, monkeypatch):
    def refuse(place):
        raise PermissionError(13, "Permission denied", place)

    monkeypatch.setattr("conmim_lightning.data.scan.os.scandir", refuse)
    with pytest.raises(ValueError, match=r"cannot read folder '.*': Permission denied"):
        FolderSource(tmp_path)


def test_a_folder_that_links_lead_to_twice_is_entered_once(tmp_path: Path):
    root = touch(tmp_path, *(f"{name}/{name}.jpg" for name in "abcdefgh"))
    for name in "abcdefgh":
        for other in set("abcdefgh") - {name}:
            (root / name / f"to {other}").symlink_to(root / other)
    assert names(FolderSource(root)) == [f"{name}/{name}.jpg" for name in "abcdefgh"]


def test_an_index_within_the_folder_is_used(tmp_path: Path, monkeypatch):
    root = touch(tmp_path / "data", "images/1.jpg")
    index_dir = str(root / "index")
    FolderSource(root, index_dir=index_dir)
    settle(root)
    FolderSource(root, index_dir=index_dir)
    settle(root)
    monkeypatch.setattr("conmim_lightning.data.folder.scan", None)
    assert names(FolderSource(root, index_dir=index_dir)) == ["images/1.jpg"]


def test_names_to_exclude_that_match_nothing_are_told(tmp_path: Path):
    rest = FolderSource(touch(tmp_path, "1.jpg", "2.jpg")).without({"1.jpg", "x.jpg", "y.jpg"})
    assert rest.notes == ["1 images are excluded", "2 of 3 names to exclude are those of no image"]
