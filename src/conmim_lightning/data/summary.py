"""What a collection looks like, in a few lines, from a few hundred of its images."""

from collections import Counter

import numpy as np

from conmim_lightning.data.decode import Decoder
from conmim_lightning.data.files import BrokenImageError
from conmim_lightning.data.sampler import SampleKey
from conmim_lightning.data.sources import Source

_NOTES = 5


def summarize(source: Source, decoder: Decoder, *, looked_at: int = 256) -> str:
    """Count, classes, formats, sizes and broken images, each a line.

    Args:
        source: the collection; of a stream nothing but the count is told.
        decoder: its limits count as broken too.
        looked_at: images whose heads are read, evenly spaced; they are not decoded.
    """
    lines = [f"{len(source):,} images{'' if source.fixed else ' an epoch'} from {source.root}"]
    if source.classes:
        lines[0] += f", {len(source.classes)} classes"
    if source.fixed:
        lines += _looked_at(source, decoder, min(looked_at, len(source)))
    notes = list(source.notes)
    lines += notes[:_NOTES] + ([f"... and {len(notes) - _NOTES} more notes"] if len(notes) > _NOTES else [])
    return "\n  ".join(lines)


def _looked_at(source: Source, decoder: Decoder, count: int) -> list[str]:
    def look(index: int) -> tuple[str, int, int, int] | BrokenImageError:
        try:
            content = source.read(SampleKey(0, index), decoder.max_bytes)
            picture = decoder.open(content)
        except BrokenImageError as error:
            return BrokenImageError(f"{source.name(index)}: {error}")
        return picture.format, picture.width, picture.height, len(content)

    found = [look(place * len(source) // count) for place in range(count)]
    good = [part for part in found if not isinstance(part, BrokenImageError)]
    broken = [part for part in found if isinstance(part, BrokenImageError)]
    formats = ", ".join(f"{name} {number}" for name, number in Counter(part[0] for part in good).most_common())
    lines = [f"of {count} looked at: {formats or 'none readable'}; {len(broken)} broken"]
    if broken:
        lines[0] += f", such as {broken[0]}"
    if good:
        numbers = np.asarray([part[1:] for part in good])
        quantiles = np.quantile(numbers, (0.05, 0.5, 0.95), axis=0).round().astype(int)
        told = zip(("width", "height", "bytes"), quantiles.T.tolist(), strict=True)
        lines.append(
            "5, 50 and 95 % quantiles: " + "; ".join(f"{name} {low}, {mid}, {high}" for name, (low, mid, high) in told)
        )
    return lines
