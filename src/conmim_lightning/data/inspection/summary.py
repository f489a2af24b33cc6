"""A summary of a collection in a few lines, from a few hundred of its images."""

from collections import Counter
from typing import NamedTuple

import numpy as np

from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.images.files import BrokenImageError
from conmim_lightning.data.inspection.survey import faintness
from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.base import Source

_NOTES = 5
_DECODED = 16  # images


class _Header(NamedTuple):
    format: str
    width: int
    height: int
    size: int


def summarize(source: Source, decoder: Decoder, *, sample_size: int = 256) -> str:
    """Summarise a collection in a few lines: count, classes, formats, sizes and broken images.

    Args:
        source: source of the images; for a stream, only the count is known.
        decoder: decoder of the image bytes; images beyond its limits count as broken.
        sample_size: number of images whose headers are read, evenly spaced; 16 of them are decoded.
    """
    lines = [f"{len(source):,} images{'' if source.fixed else ' per epoch'} from {source.root}"]
    if source.classes:
        lines[0] += f", {len(source.classes)} classes"
    if source.fixed:
        lines += _sample_lines(source, decoder, min(sample_size, len(source)))
    notes = list(source.notes)
    lines += notes[:_NOTES] + ([f"... and {len(notes) - _NOTES} more notes"] if len(notes) > _NOTES else [])
    return "\n  ".join(lines)


def _sample_lines(source: Source, decoder: Decoder, count: int) -> list[str]:
    headers: list[_Header] = []
    broken: list[str] = []
    constant: list[str] = []
    every = max(1, count // _DECODED)
    for number, index in enumerate(position * len(source) // count for position in range(count)):
        try:
            content = source.read(SampleKey(0, index), decoder.max_bytes)
            image = decoder.open(content)
            if number % every == 0 and faintness(image.whole()):
                constant.append(source.name(index))
            headers.append(_Header(image.format, image.width, image.height, len(content)))
        except BrokenImageError as error:
            broken.append(f"{source.name(index)}: {error}")
    formats = ", ".join(f"{name} {number}" for name, number in Counter(h.format for h in headers).most_common())
    lines = [f"sample of {count}: {formats or 'none readable'}; {len(broken)} broken"]
    if broken:
        lines[0] += f", such as {broken[0]}"
    if constant:
        decoded = len(range(0, count, every))
        lines.append(
            f"warning: {len(constant)} of {decoded} decoded images are nearly constant or black, such as "
            f"{constant[0]}; of more than 8 bits, data.decoder.value_range chooses which values become black and white"
        )
    if headers:
        numbers = np.asarray([header[1:] for header in headers])
        quantiles = np.quantile(numbers, (0.05, 0.5, 0.95), axis=0).round().astype(int).T.tolist()
        columns = [f"{name} {low}, {mid}, {high}" for name, (low, mid, high) in zip(_COLUMNS, quantiles, strict=True)]
        lines.append("5, 50 and 95 % quantiles: " + "; ".join(columns))
    return lines


_COLUMNS = ("width", "height", "bytes")
