import os
import platform
from pathlib import Path

import pytest

from conmim_lightning.data.synthetic.make_once import make_once


def write(text: str):
    return lambda folder: (folder / "x.txt").write_text(text) and None


def test_an_error_leaves_no_folder(tmp_path: Path):
    def fail(folder: Path) -> None:
        (folder / "half.txt").write_text("")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        make_once(tmp_path / "a", {"n": 1}, fail)
    assert not (tmp_path / "a").exists()
    make_once(tmp_path / "a", {"n": 1}, write("complete"))
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["made.json", "x.txt"]


def test_the_same_recipe_is_created_once(tmp_path: Path):
    for text in ("first", "second"):
        make_once(tmp_path / "a", {"n": 1}, write(text))
    assert (tmp_path / "a" / "x.txt").read_text() == "first"


def test_another_recipe_is_rejected(tmp_path: Path):
    make_once(tmp_path / "a", {"n": 1}, write("x"))
    with pytest.raises(ValueError, match="'n': 1"):
        make_once(tmp_path / "a", {"n": 2}, write("x"))


def test_an_empty_folder_is_used(tmp_path: Path):
    (tmp_path / "a").mkdir()
    make_once(tmp_path / "a", {"n": 1}, write("x"))
    assert (tmp_path / "a" / "x.txt").is_file()


def test_the_first_of_two_processes_wins(tmp_path: Path, monkeypatch):
    def while_another_writes(folder: Path) -> None:
        with monkeypatch.context() as patch:
            patch.setattr("os.getpid", lambda: 1)
            make_once(tmp_path / "a", {"n": 1}, write("the other"))
        (folder / "x.txt").write_text("this one")

    make_once(tmp_path / "a", {"n": 1}, while_another_writes)
    assert (tmp_path / "a" / "x.txt").read_text() == "the other"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_files_of_a_killed_process_are_removed(tmp_path: Path):
    (tmp_path / f"a.partial-{platform.node()}-2147480000").mkdir()
    running = tmp_path / f"a.partial-{platform.node()}-{os.getppid()}"
    running.mkdir()
    make_once(tmp_path / "a", {"n": 1}, write("x"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", running.name]
