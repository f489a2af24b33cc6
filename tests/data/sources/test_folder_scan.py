from pathlib import Path

import pytest
from image_tree import names, touch

from conmim_lightning.data.sources.folder import FolderSource


def test_a_loop_of_links_ends(tmp_path: Path):
    touch(tmp_path, "a/1.jpg")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert len(FolderSource(tmp_path)) == 1


def test_other_files_are_counted(tmp_path: Path):
    source = FolderSource(touch(tmp_path, "1.jpg", "2.txt", "3"))
    assert source.notes == ["files passed over: 1 .txt, 1 without suffix"]


def test_an_unreadable_folder(tmp_path: Path, monkeypatch):
    def fail(folder):
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr("conmim_lightning.data.sources.folder_scan.os.scandir", fail)
    with pytest.raises(ValueError, match=r"cannot read folder '.*': Permission denied"):
        FolderSource(tmp_path)


def test_a_folder_with_several_links_is_entered_once(tmp_path: Path):
    root = touch(tmp_path, *(f"{name}/{name}.jpg" for name in "abcdefgh"))
    for name in "abcdefgh":
        for other in set("abcdefgh") - {name}:
            (root / name / f"to {other}").symlink_to(root / other)
    assert names(FolderSource(root)) == [f"{name}/{name}.jpg" for name in "abcdefgh"]


def test_links(tmp_path: Path):
    root = touch(tmp_path / "set", "a/1.jpg")
    touch(tmp_path / "elsewhere", "3.jpg", "more/4.jpg")
    (root / "2.jpg").symlink_to(tmp_path / "elsewhere" / "3.jpg")
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    assert names(FolderSource(root)) == ["2.jpg", "a/1.jpg", "linked/3.jpg", "linked/more/4.jpg"]
    without_links = FolderSource(root, follow_links=False)
    assert names(without_links) == ["a/1.jpg"]
    assert without_links.notes == ["2 links are ignored (follow_links=false)"]
