"""Reading of the record that an offline run of wandb writes: a LevelDB log of protocol buffers."""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from wandb.proto.wandb_internal_pb2 import Record

_BLOCK, _HEADER, _FULL, _LAST = 32768, 7, 1, 4


class WandbRecord(NamedTuple):
    """What a run logged: its run message, configuration, metric definitions, history by row, and files."""

    run: Any
    config: dict[str, Any]
    definitions: dict[str, Any]
    history: list[dict[str, Any]]
    artifacts: list[Any]

    def column(self, name: str) -> list[tuple[int, Any]]:
        """Step and value of the rows that have a metric."""
        return [(row["trainer/global_step"], row[name]) for row in self.history if name in row]


def read_record(folder: Path) -> WandbRecord:
    """Read all ``.wandb`` files below a folder, oldest first."""
    record = WandbRecord(None, {}, {}, [], [])
    for path in sorted(folder.rglob("*.wandb")):
        for message in _finished(path):
            kind = message.WhichOneof("record_type")
            if kind == "run":
                record = record._replace(run=message.run)
                record.config.update(_updates(message.run.config.update))
            elif kind == "config":
                record.config.update(_updates(message.config.update))
            elif kind == "metric":
                record.definitions[message.metric.name or message.metric.glob_name] = message.metric
            elif kind == "history":
                record.history.append(_updates(message.history.item))
            elif kind == "artifact":
                record.artifacts.append(message.artifact)
    return record


def _finished(path: Path) -> list[Record]:
    """Messages of a file, once wandb's process has written the last; of a run that was not ended, after ten seconds."""
    for _ in range(50):
        messages = list(_messages(path.read_bytes()))
        if any(message.WhichOneof("record_type") == "exit" for message in messages):
            break
        time.sleep(0.2)
    return messages


def _updates(items: Any) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for item in items:
        *path, last = item.nested_key or [item.key]
        node = values
        for key in path:
            node = node.setdefault(key, {})
        node[last] = json.loads(item.value_json)
    return values


def _messages(content: bytes) -> Iterator[Record]:
    position, collected = _HEADER, b""  # the file's own header has seven bytes, too
    while position + _HEADER <= len(content):
        left = _BLOCK - position % _BLOCK
        if left < _HEADER:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + _HEADER])
        collected += content[position + _HEADER : position + _HEADER + length]
        position += _HEADER + length
        if kind in (_FULL, _LAST):
            yield Record.FromString(collected)
            collected = b""
