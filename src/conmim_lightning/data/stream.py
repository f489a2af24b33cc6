"""Images in tar shards on a server or in a bucket, read one after the other through webdataset and fsspec."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from conmim_lightning.data.files import check_size
from conmim_lightning.data.lane_sampler import LaneSampler, lane_and_place
from conmim_lightning.data.sampler import Resumable, SampleKey, Shuffle
from conmim_lightning.data.shard_stream import Item, ShardReader, expand
from conmim_lightning.randomness import stream_seed

_KEPT = 16  # samples behind the newest that a lane can still give, for substitutes
_PASS_STREAM, _BUFFER_STREAM = -3, -4


class StreamSource:
    """An endless stream, of which so many images make an epoch; nothing is indexed or kept on disk.

    The stream is cut into lanes. Each lane reads its own share of the shards, in an order that follows from (seed,
    epoch, lane), through a buffer that shuffles; a batch comes from one lane. So what a batch holds depends neither on
    the number of loader processes nor on where a run was resumed; resuming reads the lanes' shards again up to their
    place, without decoding. It does depend on ``lanes``, on the batch size and on the number of devices.

    A shard that fails or stalls is opened again ``retries`` times, going on behind the last image it gave; then it is
    left out for this pass and listed. Every device takes the same number of batches whatever the shards hold: a lane at
    its end goes through its shards again.

    Args:
        root: where the shards lie, such as https://host/set or s3://bucket/set or a folder.
        shards: names below root, with ranges in braces, such as "{00000..01234}.tar".
        samples_per_epoch: images that make an epoch, over all devices.
        lanes: lanes a device; the number of loader processes must divide it.
        shuffle_buffer: images that a lane holds to shuffle, >= 1; 1 keeps the order.
        seed: of the order.
        retries: further attempts at a shard, >= 0.
        stall_timeout: seconds without a byte after which an attempt fails.
        storage_options: further arguments of fsspec's file system, such as credentials.

    Raises:
        ValueError: a number is out of range, or webdataset is missing.
    """

    fixed = False
    notes: Sequence[str] = ()
    classes: Sequence[str] = ()

    def __init__(
        self,
        root: str,
        *,
        shards: str,
        samples_per_epoch: int,
        lanes: int = 8,
        shuffle_buffer: int = 256,
        seed: int = 0,
        retries: int = 3,
        stall_timeout: float = 30.0,
        storage_options: dict[str, Any] | None = None,
    ) -> None:
        for name, number, least in (
            ("samples_per_epoch", samples_per_epoch, 1),
            ("lanes", lanes, 1),
            ("shuffle_buffer", shuffle_buffer, 1),
            ("retries", retries, 0),
        ):
            if number < least:
                raise ValueError(f"{name} of a stream must be at least {least}, got {number}")
        self.root = root
        self.urls = expand(root, shards)
        self.samples_per_epoch = samples_per_epoch
        self.lanes = lanes
        self.shuffle_buffer = shuffle_buffer
        self.seed = seed
        self.reader = ShardReader(retries, stall_timeout, storage_options or {})
        self.num_lanes = lanes  # over all devices, once the sampler knows them
        self.excluded: set[str] = set()
        self._forget()

    def _forget(self) -> None:
        self._lanes: dict[int, Lane] = {}
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, object]:
        """Open lanes stay in their process."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_lanes", "_process")}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Start without open lanes."""
        self.__dict__ |= state
        self._forget()

    def __len__(self) -> int:
        """Images of an epoch, over all devices."""
        return self.samples_per_epoch

    def name(self, index: int) -> str:
        """Lane and place; the images themselves are named where they are read."""
        lane, place = lane_and_place(index)
        return f"{self.root} lane {lane} image {place}"

    def label(self, index: int) -> int:
        """Streams have no labels."""
        raise ValueError("a stream has no labels")

    def read(self, key: SampleKey, max_bytes: int | None = None) -> bytes:
        """The image at a place of a lane; quick if places are asked for in order."""
        if self._process != os.getpid():
            self._forget()  # a loader process has its own
        number, place = lane_and_place(key.index)
        lane = self._lanes.get(number)
        if lane is None or lane.epoch != key.epoch or place < lane.oldest:
            lane = self._lanes[number] = Lane(key.epoch, self._images(key.epoch, number))
        content = lane.get(place)[1]
        check_size(len(content), max_bytes)
        return content

    def substitute(self, index: int, draw: int) -> int:
        """The next image of the lane."""
        return index + 1

    def take_faults(self) -> list[tuple[str, str]]:
        """Shards that were left out since the last call."""
        return self.reader.take_faults()

    def sampler(self, *, seed: int, rank: int, num_devices: int, batch_size: int) -> Resumable:
        """Batches from one lane each."""
        self.num_lanes = self.lanes * num_devices
        return LaneSampler(
            self.samples_per_epoch // num_devices,
            lanes=self.lanes,
            batch_size=batch_size,
            rank=rank,
            num_devices=num_devices,
        )

    def workers(self, wanted: int) -> int:
        """The largest number up to ``wanted`` that divides the lanes."""
        return max((number for number in range(1, wanted + 1) if self.lanes % number == 0), default=0)

    def without(self, names: set[str]) -> "StreamSource":
        """Leave images out as they come by."""
        self.excluded = names
        return self

    def _images(self, epoch: int, lane: int) -> Iterator[Item]:
        """A lane's images, shuffled, without end."""
        draws = np.random.default_rng(stream_seed(self.seed, epoch, lane, _BUFFER_STREAM))
        buffer: list[Item] = []
        for item in self._unshuffled(epoch, lane):
            if item[0] in self.excluded:
                continue
            buffer.append(item)
            if len(buffer) >= self.shuffle_buffer:
                place = int(draws.integers(len(buffer)))
                buffer[place], buffer[-1] = buffer[-1], buffer[place]
                yield buffer.pop()

    def _unshuffled(self, epoch: int, lane: int) -> Iterator[Item]:
        """A lane's share of the shards, pass after pass; several lanes may share a shard, image by image."""
        count = len(self.urls)
        turn = 0
        while True:
            order = Shuffle(count, stream_seed(self.seed, epoch, turn, _PASS_STREAM))
            sharing = -(-self.num_lanes // count)  # lanes a shard
            met = 0
            for place in range(lane % count, count, self.num_lanes):
                url = self.urls[int(order(np.asarray([place]))[0])]
                for number, item in enumerate(self.reader.images(url)):
                    if number % sharing == lane // count % sharing:
                        met += 1
                        yield item
            if not met:
                told = (
                    "; ".join(f"{name} {reason}" for name, reason in self.reader.faults[-3:])
                    or "its shards hold no image"
                )
                raise ValueError(f"lane {lane} of the stream {self.root!r} has nothing to read: {told}")
            turn += 1


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
