"""A place in an endless sequence of images."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from conmim_lightning.data.shard_stream import Item

_KEPT = 16  # samples behind the newest that a lane can still give, for substitutes


@dataclass
class Lane:
    """A place in an endless sequence, with the last few items that it gave.

    Attributes:
        epoch: that the sequence is of.
        items: the sequence.
        next: place of the item that comes next.
        recent: items at the places before it.
    """

    epoch: int
    items: Iterator[Item]
    next: int = 0
    recent: dict[int, Item] = field(default_factory=dict)

    @property
    def oldest(self) -> int:
        """The first place that can still be had."""
        return max(0, self.next - _KEPT)

    def get(self, place: int) -> Item:
        """The item at a place, not before ``oldest``."""
        while place >= self.next:
            self.recent[self.next] = next(self.items)
            self.recent.pop(self.next - _KEPT, None)
            self.next += 1
        return self.recent[place]


def drawn(buffer: list[Item], draws: np.random.Generator) -> Item:
    """Take any item out of the buffer."""
    place = int(draws.integers(len(buffer)))
    buffer[place], buffer[-1] = buffer[-1], buffer[place]
    return buffer.pop()
