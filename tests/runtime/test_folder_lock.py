import os
import signal
import subprocess
import sys

import pytest

from conmim_lightning.runtime import folder_lock as module
from conmim_lightning.runtime.folder_lock import folder_lock

HOLD = """
import sys, time
from conmim_lightning.runtime.folder_lock import folder_lock
with folder_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(module, "_PATIENCE", 0.3)


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_process_is_rejected_with_the_name_of_the_first(tmp_path, holder, impatient):
    message = rf"is in use by process {holder.pid} on .*another paths.run_dir"
    with pytest.raises(ValueError, match=message), folder_lock(str(tmp_path)):
        pass


def test_a_killed_process_releases_its_folder(tmp_path, holder, impatient):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with folder_lock(str(tmp_path)):
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()
    assert not list(tmp_path.iterdir())


def test_a_process_that_ends_while_another_waits(tmp_path, holder, monkeypatch):
    monkeypatch.setattr(module.time, "sleep", lambda seconds: holder.kill())
    with folder_lock(str(tmp_path)):
        pass


def test_a_forked_process_does_not_hold_the_folder(tmp_path, impatient):
    with folder_lock(str(tmp_path)):
        reading, writing = os.pipe()
        if (child := os.fork()) == 0:
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
    with folder_lock(str(tmp_path)):
        pass
    os.close(writing)
    os.waitpid(child, 0)
    os.close(reading)


def test_one_process_may_use_several_folders_one_after_the_other(tmp_path):
    for name in "aab":
        (tmp_path / name).mkdir(exist_ok=True)
        with folder_lock(str(tmp_path / name)):
            pass


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(38, "not implemented")

    monkeypatch.setattr(module.fcntl, "flock", fail)
    with folder_lock(str(tmp_path)):
        pass
    with folder_lock(str(tmp_path / "none")):
        pass
