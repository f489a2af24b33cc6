"""Short error messages for users, and fewer warnings from the libraries."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from conmim_lightning.config.signatures import allowed

EXPECTED_WARNINGS = (
    r".*isinstance\(treespec, LeafSpec\).*",  # torch about Lightning
    r"Found \d+ module\(s\) in eval mode at the start of training.*",  # the teacher's encoder, on purpose
    r"You have overridden `on_after_batch_transfer` in `LightningModule`.*",  # on purpose: the perturbation
    r"The '\w+_dataloader' does not have many workers.*",  # speed/data_wait reports that
    r"You're resuming from a checkpoint that ended before the epoch ended.*",  # the data module continues there
    r"Be aware that when using `ckpt_path`, callbacks used to create.*",  # such as the timer of an earlier max_time
    r"The dirpath has changed from .*",  # a resumed run writes to its own folder
    r"The number of training batches \(\d+\) is smaller than the logging interval.*",
    r".*It is recommended to use .self.log.*sync_dist=True.*",
    r"`training_step` returned `None`.*",
)
"""Beginnings of warnings that do not concern a user of this project, as regular expressions."""


def quiet_libraries() -> None:
    """Ignore warnings that do not concern the user, and show each message once."""
    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("faster_coco_eval").setLevel(logging.WARNING)
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        logging.getLogger(name).handlers.clear()
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_tip)


def _is_no_tip(record: logging.LogRecord) -> bool:
    return "Tip:" not in record.getMessage()


@contextmanager
def user_errors() -> Iterator[None]:
    """End the program with the message alone for an error that the user can fix; other errors keep their trace.

    The exit status is 1. CONMIM_TRACE=1 keeps every trace.
    """
    from hydra.errors import HydraException

    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra raises its errors instead of printing a trace
    try:
        yield
    except Exception as error:
        cause = _innermost(error)
        fixable = (
            isinstance(cause, ValueError | OSError | HydraException)
            or type(cause).__name__ in ("NonFiniteError", "StoppedError")
            or cause is not error  # a constructor rejected its arguments
        )
        if not fixable or os.environ.get("CONMIM_TRACE") == "1":
            raise
        print(f"\nerror: {_without_trace(cause)}{_suggestion(cause)}", file=sys.stderr)
        raise SystemExit(getattr(cause, "status", 1)) from None


def _innermost(error: BaseException) -> BaseException:
    """The exception of a constructor, which Hydra wraps."""
    while type(error).__name__ == "InstantiationException" and error.__cause__:
        error = error.__cause__
    return error


def _without_trace(error: BaseException) -> str:
    """The message; that of a loader process contains its trace, and ends with the message."""
    return str(error).rsplit(f"\n{type(error).__name__}: ", 1)[-1].rstrip()


def _suggestion(error: BaseException) -> str:
    """For an override of a key or an option that does not exist: the closest one, and all."""
    node, key = (getattr(error.__cause__, name, None) for name in ("parent_node", "key"))
    if node is not None:
        return f"\n{allowed(str(key), map(str, node))}"
    missing, options = (getattr(error, name, None) for name in ("missing_cfg_file", "options"))
    return f"\n{allowed(str(missing).rpartition('/')[2], options)}" if options else ""
