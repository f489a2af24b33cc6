import os
import signal
import subprocess
import sys
import time

import pytest
from torch.distributed import TCPStore

from conmim_lightning.callbacks import heartbeat
from conmim_lightning.callbacks.heartbeat import Heartbeat


@pytest.fixture
def monitor(monkeypatch):
    """Monitor of a rank of two, without its threads; the store lives in this process."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(store.port))
    made = []

    def make(rank, timeout=30.0):
        made.append(heartbeat._Monitor(rank, 2, timeout, []))
        return made[-1]

    yield make
    del store


def test_ranks_see_each_other(monitor):
    one, other = monitor(0), monitor(1)
    other.position = 7
    other._publish()
    one._exchange()
    assert one._beats[1][1] == "7"
    assert one._verdict(patient=False) == ""


def test_a_rank_that_has_not_begun_is_waited_for(monitor):
    one = monitor(0)
    one._exchange()
    assert one._verdict(patient=False) == ""


def test_a_rank_that_failed_is_named_with_its_message(monitor):
    one, other = monitor(0), monitor(1)
    other.stop("failed", "image\tx is broken")
    one._exchange()
    assert one._verdict(patient=False) == "rank 1 failed: image x is broken"
    assert one._verdict(patient=True) == "", "this process may notice it by itself"
    one._failed_at[1] -= heartbeat._GRACE + 1
    assert one._verdict(patient=True) == "rank 1 failed: image x is broken"


def test_a_rank_that_has_finished_is_not_missed(monitor):
    one, other = monitor(0), monitor(1)
    other.stop("done")
    one._exchange()
    one._seen[1] -= 1000
    assert one._verdict(patient=False) == ""


def test_a_dead_process_is_noticed_at_once(monitor, monkeypatch):
    one, other = monitor(0), monitor(1)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    monkeypatch.setattr(os, "getpid", lambda: process.pid)
    other._publish()
    monkeypatch.undo()
    one._exchange()
    assert one._verdict(patient=False) == ""
    process.send_signal(signal.SIGKILL)
    while process.poll() is None:
        time.sleep(0.01)
    verdict = one._verdict(patient=False)
    assert verdict.startswith(f"rank 1 (process {process.pid} on ")
    assert verdict.endswith("at batch 0) has died")


def test_a_silent_rank_is_frozen(monitor):
    one, other = monitor(0), monitor(1)
    other._publish()
    one._exchange()
    one._seen[1] -= 31
    assert one._verdict(patient=False).endswith("has not responded for 30 s")


def test_a_silent_store_is_that_of_rank_0(monitor):
    other = monitor(1)
    other._exchange()
    assert other._verdict(patient=False) == ""
    other._answered -= 31
    assert other._verdict(patient=False) == "rank 0 or its machine has not responded for 30 s"


def test_ranks_that_do_not_meet_are_listed(monitor, monkeypatch):
    one, other = monitor(0), monitor(1)
    one.position, other.position = 9, 4
    other._publish()
    one._exchange()
    monkeypatch.setattr(heartbeat, "_GRACE", 0.1)
    meeting = "the ranks did not meet: rank 0 at batch 9, rank 1 at batch 4; see trainer.strategy.timeout"
    assert one.blame(timed_out=True) == meeting


def test_one_device_has_no_monitor():
    callback = Heartbeat()

    class One:
        world_size = 1

    callback.setup(One(), None, "fit")
    assert callback._monitor is None
    with pytest.raises(ValueError, match="above 0 seconds, got 0"):
        Heartbeat(timeout=0)
