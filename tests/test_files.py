import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conmim_lightning.files import check_writable, naming, remove_partial, replacing, replacing_folder, write_text


def test_an_error_of_a_write_names_the_file():
    with pytest.raises(OSError, match=r"No space left on device: '/x/metrics.csv'") as caught, naming("/x/metrics.csv"):
        raise OSError(28, "No space left on device")
    assert caught.value.errno == 28


def test_an_error_that_names_a_file_keeps_it():
    with pytest.raises(FileNotFoundError, match="'/other'"), naming("/x"):
        raise FileNotFoundError(2, "No such file", "/other")


def test_a_failed_write_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "first")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"a\.txt"), replacing(path) as temporary:
        fail(temporary)
    assert path.read_text() == "first"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_the_full_device_is_an_error_with_a_name():
    full = Path("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device: '/dev/full'"), naming(full):
        full.write_text("x")


def test_the_suffix_stays_for_libraries_that_choose_the_format_by_it(tmp_path):
    with replacing(tmp_path / "a" / "b.png") as temporary:
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"")
    assert (tmp_path / "a" / "b.png").exists()


def test_what_a_killed_process_left_is_removed(tmp_path):
    code = "import os, signal\nfrom conmim_lightning.files import replacing\n" + (
        "with replacing('a.txt') as temporary:\n temporary.write_text('half')\n os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    assert done.returncode == -signal.SIGKILL
    (tmp_path / "other.txt").touch()
    assert len(os.listdir(tmp_path)) == 2
    assert not (tmp_path / "a.txt").exists()
    remove_partial(tmp_path)
    assert os.listdir(tmp_path) == ["other.txt"]


def test_a_folder_that_cannot_be_written(tmp_path):
    check_writable(tmp_path / "new")
    assert os.listdir(tmp_path / "new") == []
    with pytest.raises(OSError, match="/proc/1"):
        check_writable("/proc/1/run")


def test_a_folder_is_complete_or_absent(tmp_path):
    (tmp_path / "out").mkdir()

    def fail(folder: Path) -> None:
        (folder / "x").touch()
        raise KeyError

    with pytest.raises(KeyError), replacing_folder(tmp_path / "out") as folder:
        fail(folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["out"]
    with replacing_folder(tmp_path / "out") as folder:
        (folder / "x").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["out", "x"]
    with replacing_folder(tmp_path / "deep" / "new") as folder:
        (folder / "y").touch()
    assert (tmp_path / "deep" / "new" / "y").exists()
