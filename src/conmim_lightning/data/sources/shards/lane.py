"""A lane: an endless sequence of images that is read in order."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from conmim_lightning.data.sources.shards.reader import Item

_CACHED = 16  # most recent images, for substitutes


@dataclass
class Lane:
    """A position in an endless sequence, with the most recent items.

    Attributes:
        epoch: epoch of the sequence.
        items: iterator over the sequence.
        next: position of the next item.
        recent: most recent items by position, all before ``next``.
    """

    epoch: int
    items: Iterator[Item]
    next: int = 0
    recent: dict[int, Item] = field(default_factory=dict)

    @property
    def oldest(self) -> int:
        """First position that is still available."""
        return max(0, self.next - _CACHED)

    def get(self, position: int) -> Item:
        """Return the item at a position, which must not be before ``oldest``."""
        while position >= self.next:
            self.recent[self.next] = next(self.items)
            self.recent.pop(self.next - _CACHED, None)
            self.next += 1
        return self.recent[position]


def pop_random(buffer: list[Item], rng: np.random.Generator) -> Item:
    """Remove a random item from the buffer and return it."""
    position = int(rng.integers(len(buffer)))
    buffer[position], buffer[-1] = buffer[-1], buffer[position]
    return buffer.pop()
