"""Masking of credentials in whatever a run writes."""

import logging
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO, cast

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from conmim_lightning.files import write_text

MASK = "***"
_NAMES = r"[\w.-]*?(?:password|passwd|secret|token|api_?key|access_?key|secret_?key|credential)"
_KEY = re.compile(_NAMES, re.IGNORECASE)
_IN_URL = re.compile(r"(?<=://)(?:[^/@:\s'\"]+:[^\s'\"]+|[^/@\s'\"]+)(?=@)")
_IN_QUERY = re.compile(rf"([?&](?:{_NAMES}|[\w-]*signature|sig)=)[^&\s'\"#]+", re.IGNORECASE)
_ARGUMENT = re.compile(
    rf"(?P<key>(?<![\w.-]){_NAMES})(?P<sign>['\"]?\s*[=:]\s*)(?P<value>'[^']*'|\"[^\"]*\"|[^\s,'\"{{}}&]+)",
    re.IGNORECASE,
)
_MODEL_TOKENS = ("class_token", "cls_token", "mask_token", "dist_token", "use_class_token", "no_embed_class_token")
_NOT_SECRET = ("null", "none", "true", "false")


def mask_text(text: str) -> str:
    """Return a text in which credentials in URLs, in their queries and in arguments are masked."""
    return _ARGUMENT.sub(_mask_argument, _IN_QUERY.sub(rf"\g<1>{MASK}", _IN_URL.sub(MASK, text)))


def _mask_argument(match: re.Match[str]) -> str:
    is_secret = _is_secret(match["key"].rpartition(".")[2]) and match["value"].lower() not in _NOT_SECRET
    masked = f"'{MASK}'" if match["sign"].strip().endswith(":") else MASK  # YAML would take it for an alias
    return f"{match['key']}{match['sign']}{masked}" if is_secret else match[0]


def mask(value: Any, key: str = "") -> Any:
    """Return a copy of nested dictionaries and lists in which credentials are masked.

    Args:
        value: dictionary, list or leaf.
        key: key of the value; a string whose key is the name of a credential is masked as a whole.
    """
    if isinstance(value, dict):
        return {name: mask(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [mask(item, key) for item in value]
    if not isinstance(value, str):
        return value
    return MASK if value and _is_secret(key) else mask_text(value)


def masked_keys(value: Any, name: str = "") -> list[str]:
    """Return the dotted names of masked values."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    names = [below for key, item in items for below in masked_keys(item, f"{name}.{key}" if name else str(key))]
    return [*names, name] if isinstance(value, str) and MASK in value else names


@contextmanager
def masked_output() -> Iterator[None]:
    """Mask credentials in log records, and in what is written to the standard streams, also by libraries."""
    factory = logging.getLogRecordFactory()

    def masked(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = factory(*args, **kwargs)
        record.msg, record.args = mask_text(record.getMessage()), ()
        return record

    out, err = cast(TextIO, MaskedStream(sys.stdout)), cast(TextIO, MaskedStream(sys.stderr))
    logging.setLogRecordFactory(masked)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            yield
    finally:
        logging.setLogRecordFactory(factory)


def masked_excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print an uncaught error with masked credentials."""
    sys.stderr.write(mask_text("".join(traceback.format_exception(kind, error, trace))))


class MaskedStream:
    """Text stream that masks credentials in what is written, also by libraries.

    Args:
        stream: stream to write to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the masked text."""
        return self._stream.write(mask_text(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class MaskSecrets(Callback):
    """Mask credentials in the files that Hydra has written before a job, and for a sweep, at its end."""

    def on_job_start(self, config: DictConfig, **kwargs: object) -> None:
        """Mask the files of the job, and those of its sweep."""
        if config.hydra.output_subdir:
            _mask_files(Path(config.hydra.runtime.output_dir, config.hydra.output_subdir))
        if config.hydra.mode is not None and config.hydra.mode.name == "MULTIRUN":
            _mask_files(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **kwargs: object) -> None:
        """Mask the files of the sweep."""
        _mask_files(Path(config.hydra.sweep.dir))


def _mask_files(folder: Path) -> None:
    for path in folder.glob("*.yaml"):
        text = path.read_text()
        if (masked := mask_text(text)) != text:
            write_text(path, masked)


def _is_secret(key: str) -> bool:
    return bool(_KEY.fullmatch(key)) and key not in _MODEL_TOKENS
