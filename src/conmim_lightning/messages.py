"""What a user reads: plain errors, and no noise from the libraries below."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

EXPECTED_WARNINGS = (
    r".*isinstance\(treespec, LeafSpec\).*",  # torch about Lightning
    r"Found \d+ module\(s\) in eval mode at the start of training.*",  # the teacher's encoder, on purpose
    r"You have overridden `on_after_batch_transfer` in `LightningModule`.*",  # on purpose: the perturbation
    r"The '\w+_dataloader' does not have many workers.*",  # told by speed/data_wait instead
    r"You're resuming from a checkpoint that ended before the epoch ended.*",  # the data module goes on there
    r"Be aware that when using `ckpt_path`, callbacks used to create.*",  # such as the timer of an earlier max_time
    r"The dirpath has changed from .*",  # a resumed run writes to its own folder
    r"The number of training batches \(\d+\) is smaller than the logging interval.*",
    r".*It is recommended to use .self.log.*sync_dist=True.*",
    r"`training_step` returned `None`.*",
)
"""Beginnings of warnings that do not concern a user of this project, as regular expressions."""


def quiet_libraries() -> None:
    """Leave out warnings that do not concern the user, and let each message appear once."""
    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("faster_coco_eval").setLevel(logging.WARNING)
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        logging.getLogger(name).handlers.clear()
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_advertisement)


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return "Tip:" not in record.getMessage()


@contextmanager
def told_plainly() -> Iterator[None]:
    """End the program with status 1 and the message alone for what a user can mend; anything else keeps its trace.

    Set CONMIM_TRACE=1 to keep every trace.
    """
    from hydra.errors import HydraException

    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra hands its errors on instead of printing a trace
    try:
        yield
    except Exception as error:
        cause = _innermost(error)
        mendable = (
            isinstance(cause, ValueError | OSError | HydraException)
            or type(cause).__name__ in ("NonFiniteError", "StoppedError")
            or cause is not error  # a constructor refused what the configuration gave it
        )
        if not mendable or os.environ.get("CONMIM_TRACE") == "1":
            raise
        print(f"\nerror: {_without_trace(cause)}{_allowed_keys(cause)}", file=sys.stderr)
        raise SystemExit(getattr(cause, "status", 1)) from None


def _innermost(error: BaseException) -> BaseException:
    """Hydra wraps what a constructor raises; the cause says what was wrong."""
    while type(error).__name__ == "InstantiationException" and error.__cause__:
        error = error.__cause__
    return error


def _without_trace(error: BaseException) -> str:
    """What a loader process raises arrives with its trace as the message; the last part is the sentence."""
    return str(error).rsplit(f"\n{type(error).__name__}: ", 1)[-1].rstrip()


def _allowed_keys(error: BaseException) -> str:
    """For an override of a key that is not there: the keys that are."""
    place = getattr(error.__cause__, "parent_node", None)
    return f"\nkeys here: {', '.join(map(str, place))}" if place is not None else ""
