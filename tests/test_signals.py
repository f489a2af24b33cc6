import os
import signal

import pytest

from conmim_lightning.signals import STOP_SIGNALS, StoppedError, active_handler, stop_signals


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_stops_at_once(number):
    before = signal.getsignal(number)
    with stop_signals() as handler:
        handler.advice = lambda: " during the test"
        with pytest.raises(StoppedError, match=f"{number.name} stopped the command during the test") as caught:
            signal.raise_signal(number)
    assert caught.value.status == 128 + number
    assert signal.getsignal(number) == before
    assert active_handler() is None


def test_code_that_tolerates_errors_does_not_swallow_a_stop():
    def tolerant():
        try:
            signal.raise_signal(signal.SIGTERM)
        except Exception:
            pytest.fail("a stop is no Exception")

    with pytest.raises(StoppedError), stop_signals():
        tolerant()


def test_a_deferred_signal_is_remembered_and_the_second_stops():
    names = []
    with stop_signals() as handler:
        handler.on_first = names.append
        handler.defer()
        signal.raise_signal(signal.SIGUSR1)
        assert handler.received == signal.SIGUSR1
        assert names == ["SIGUSR1"]
        with pytest.raises(StoppedError, match="SIGTERM") as caught:
            signal.raise_signal(signal.SIGTERM)
        assert caught.value.status == 143


def test_blocks_are_nested():
    with stop_signals() as outer:
        with stop_signals() as inner:
            assert active_handler() is inner
        assert active_handler() is outer
        with pytest.raises(StoppedError):
            signal.raise_signal(signal.SIGINT)


def test_a_forked_process_ignores_the_first_signal_and_ends_at_the_second():
    """The signals of a terminal and of SLURM reach loader processes, too; the run saves while they still work."""
    with stop_signals():
        pid = os.fork()
        if pid == 0:
            signal.raise_signal(signal.SIGTERM)  # nothing
            os.write(1, b"")
            signal.raise_signal(signal.SIGTERM)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGTERM
