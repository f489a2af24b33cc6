import logging
import warnings

import pytest
from hydra.errors import InstantiationException

from conmim_lightning.optim.non_finite import NonFiniteError
from conmim_lightning.runtime.errors import EXPECTED_WARNINGS, quiet_libraries, user_errors


@pytest.fixture(autouse=True)
def _restore(monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    with warnings.catch_warnings():
        yield


@pytest.mark.parametrize("error", [ValueError("a fault"), OSError("a fault"), NonFiniteError("a fault")])
def test_an_error_that_the_user_can_fix_is_one_message(capsys, error):
    with pytest.raises(SystemExit) as ended, user_errors():
        raise error
    assert ended.value.code == 1
    assert capsys.readouterr().err == "\nerror: a fault\n"


def test_the_error_of_a_constructor_is_shown_without_hydras():
    with pytest.raises(SystemExit), user_errors():
        raise InstantiationException("Error in call to target 'x'") from ValueError("a fault")


def test_the_trace_of_a_loader_process_is_left_out(capsys):
    with pytest.raises(SystemExit), user_errors():
        raise ValueError("Caught ValueError in DataLoader worker process 0.\nTraceback ...\nValueError: a fault")
    assert capsys.readouterr().err == "\nerror: a fault\n"


def test_other_errors_and_traces_on_request_are_raised(monkeypatch):
    with pytest.raises(ZeroDivisionError), user_errors():
        raise ZeroDivisionError
    monkeypatch.setenv("CONMIM_TRACE", "1")
    with pytest.raises(ValueError, match="a fault"), user_errors():
        raise ValueError("a fault")


@pytest.mark.parametrize(
    "message",
    [
        "Found 42 module(s) in eval mode at the start of training. This may lead to unexpected behavior",
        "The 'train_dataloader' does not have many workers which may be a bottleneck",
        "The number of training batches (6) is smaller than the logging interval",
    ],
)
def test_expected_warnings_are_ignored(message):
    quiet_libraries()
    with warnings.catch_warnings(record=True) as caught:
        for pattern in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=pattern)
        warnings.warn(message, stacklevel=1)
    assert not caught


def test_tips_of_lightning_are_left_out():
    quiet_libraries()
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    records = [logging.makeLogRecord({"msg": text, "name": logger.name}) for text in ("Tip: try this", "a fact")]
    assert [bool(logger.filter(record)) for record in records] == [False, True]
