"""Short error messages for users, and fewer warnings from the libraries."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from conmim_lightning.config.signatures import allowed
from conmim_lightning.runtime.arguments import quoting_advice
from conmim_lightning.runtime.ranks import global_rank
from conmim_lightning.signals import StoppedError

EXPECTED_WARNINGS = (
    r".*isinstance\(treespec, LeafSpec\).*",  # torch's warning about Lightning
    r"Found \d+ module\(s\) in eval mode at the start of training.*",  # on purpose: the teacher's encoder
    r"You have overridden `on_after_batch_transfer` in `LightningModule`.*",  # on purpose: the perturbation
    r"The '\w+_dataloader' does not have many workers.*",  # the metric speed/data_wait reports that
    r"You're resuming from a checkpoint that ended before the epoch ended.*",  # the data module resumes at that batch
    r"Be aware that when using `ckpt_path`, callbacks used to create.*",  # such as the timer of an earlier max_time
    r"The dirpath has changed from .*",  # a resumed run writes to its own folder
    r"Checkpoint directory .* exists and is not empty.*",  # on purpose: the same run continues there
    r"The number of training batches \(\d+\) is smaller than the logging interval.*",
    r".*It is recommended to use .self.log.*sync_dist=True.*",
    r"`training_step` returned `None`.*",
)
"""Warnings that do not concern a user of this project, as regular expressions of their beginning."""


def quiet_libraries() -> None:
    """Ignore warnings that do not concern the user, and show each other message once."""
    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    for name in ("faster_coco_eval", "faiss.loader"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        logging.getLogger(name).handlers.clear()
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_tip)


def _is_no_tip(record: logging.LogRecord) -> bool:
    return "Tip:" not in record.getMessage()


@contextmanager
def user_errors() -> Iterator[None]:
    """Exit with only the message for an error that the user can fix; other errors keep their traceback.

    The exit status is 1. The environment variable CONMIM_TRACE=1 keeps every traceback.
    """
    from hydra.errors import HydraException

    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises its errors instead of printing a traceback
    try:
        yield
    except (Exception, StoppedError) as error:
        cause = _innermost(error)
        fixable = (
            isinstance(cause, ValueError | OSError | HydraException | StoppedError)
            or type(cause).__name__ in ("NonFiniteError", "RankFailedError")
            or cause is not error  # a constructor rejected its arguments
        )
        if not fixable or os.environ.get("CONMIM_TRACE") == "1":
            raise
        if not isinstance(cause, StoppedError) or global_rank() == 0:  # all ranks stop with the same message
            print(f"\nerror: {_without_trace(cause)}{_suggestion(cause)}{quoting_advice(cause)}", file=sys.stderr)
        raise SystemExit(getattr(cause, "status", 1)) from None


def _innermost(error: BaseException) -> BaseException:
    """Return the exception of a constructor, which Hydra wraps."""
    while type(error).__name__ == "InstantiationException" and error.__cause__:
        error = error.__cause__
    return error


def _without_trace(error: BaseException) -> str:
    """Return the message; an error of a loader process contains its traceback, followed by the message."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fspath(error.filename)!r}: {error.strerror}"
    return str(error).rsplit(f"\n{type(error).__name__}: ", 1)[-1].rstrip()


def _suggestion(error: BaseException) -> str:
    """Return, for an override of an unknown key or option, the closest valid name and all valid names."""
    node, key = (getattr(error.__cause__, name, None) for name in ("parent_node", "key"))
    if node is not None:
        return f"\n{allowed(str(key), map(str, node))}"
    missing, options = (getattr(error, name, None) for name in ("missing_cfg_file", "options"))
    return f"\n{allowed(str(missing).rpartition('/')[2], options)}" if options else ""
