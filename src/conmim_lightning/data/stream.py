"""Images in tar shards on a server or in a bucket, read one after the other through webdataset and fsspec."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from conmim_lightning.data.files import check_size
from conmim_lightning.data.lane_sampler import LaneSampler, lane_and_place
from conmim_lightning.data.lanes import Lane, drawn
from conmim_lightning.data.sampler import Resumable, SampleKey, Shuffle
from conmim_lightning.data.shard_stream import Item, ShardReader, expand, refuse_secrets
from conmim_lightning.randomness import stream_seed

_PASS_STREAM, _BUFFER_STREAM, _DEAL_STREAM = -3, -4, -5
_HOPELESS = 4  # shards that fail one after the other before any image


class StreamSource:
    """An endless stream, of which so many images make an epoch; nothing is indexed or kept on disk.

    The stream is cut into lanes. Each lane reads its own share of the shards, in an order that follows from (seed,
    epoch, lane), through a buffer that shuffles; a batch comes from one lane. So what a batch holds depends neither on
    the number of loader processes nor on where a run was resumed; resuming reads the lanes' shards again up to their
    place, without decoding. It does depend on ``lanes``, on the batch size and on the number of devices.

    A shard that fails or stalls is opened again ``retries`` times, going on behind the last image it gave; then it is
    left out for this pass and listed. Every device takes the same number of batches whatever the shards hold: a lane at
    its end goes through its shards again. Within an epoch no two lanes, so no two devices, have an image in common; but
    as shards are uneven, some lanes begin anew while others are not through.

    Memory: ``shuffle_buffer`` encoded images a lane.

    Args:
        root: where the shards lie, such as https://host/set or s3://bucket/set or a folder.
        shards: names below root, with ranges in braces, such as "{00000..01234}.tar".
        samples_per_epoch: images that make an epoch, over all devices.
        lanes: lanes a device; the number of loader processes must divide it.
        shuffle_buffer: images that a lane holds to shuffle, >= 1; 1 keeps the order.
        seed: of the order.
        retries: further attempts at a shard, >= 0.
        stall_timeout: seconds without a byte after which an attempt fails, over http; for buckets give their libraries'
            time limits as storage_options.
        storage_options: further arguments of fsspec's file system. No secrets: what is configured is kept with every
            run; fsspec's libraries take those from the environment and from their own files.

    Raises:
        ValueError: a number is out of range, webdataset is missing, or storage_options hold a secret.
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
        refuse_secrets(storage_options or {})
        self.root = root
        self.urls = expand(root, shards)
        self.samples_per_epoch = samples_per_epoch
        self.lanes = lanes
        self.shuffle_buffer = shuffle_buffer
        self.seed = seed
        self.reader = ShardReader(root, retries, stall_timeout, storage_options or {})
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
        """Shard and member, relative to the root, of an image read a moment ago; else lane and place."""
        lane, place = lane_and_place(index)
        recent = self._lanes[lane].recent if lane in self._lanes else {}
        return recent[place][0] if place in recent else f"lane {lane} image {place}"

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
        self._forget()  # lanes that were opened before the devices were known hold other images
        return LaneSampler(
            self.samples_per_epoch // num_devices,
            lanes=self.lanes,
            batch_size=batch_size,
            rank=rank,
            num_devices=num_devices,
        )

    def fingerprint(self) -> str:
        """From all that decides what a place holds."""
        parts = (
            *self.urls,
            self.num_lanes,
            self.shuffle_buffer,
            self.samples_per_epoch,
            self.seed,
            *sorted(self.excluded),
        )
        return hashlib.blake2b(
            "\n".join(map(str, parts)).encode("utf-8", "surrogateescape"), digest_size=16
        ).hexdigest()

    def workers(self, wanted: int) -> int:
        """The largest number up to ``wanted`` that divides the lanes."""
        return max((number for number in range(1, wanted + 1) if self.lanes % number == 0), default=0)

    def without(self, names: set[str]) -> "StreamSource":
        """Leave images out as they come by."""
        self.excluded = names
        return self

    def _images(self, epoch: int, lane: int) -> Iterator[Item]:
        """A lane's images, shuffled, without end: pass after pass through its shards, each to its last image."""
        turn = 0
        while True:
            draws = np.random.default_rng(stream_seed(self.seed, epoch, lane, turn, _BUFFER_STREAM))
            buffer: list[Item] = []
            met = False
            for item in self._one_pass(epoch, lane, turn):
                met = True
                buffer.append(item)
                if len(buffer) >= self.shuffle_buffer:
                    yield drawn(buffer, draws)
            while buffer:
                yield drawn(buffer, draws)
            if not met:
                self._give_up(lane, "its shards hold no image, or none that is not excluded")
            turn += 1

    def _one_pass(self, epoch: int, lane: int, turn: int) -> Iterator[Item]:
        """A lane's share of the shards, the same ones all through the epoch; where shards are few, lanes share one."""
        count = len(self.urls)
        shards = Shuffle(count, stream_seed(self.seed, epoch, _DEAL_STREAM))
        places = np.arange(lane, count, self.num_lanes) if self.num_lanes <= count else np.asarray([lane % count])
        order = Shuffle(len(places), stream_seed(self.seed, epoch, lane, turn, _PASS_STREAM))
        sharing, mine = (
            (1, 0) if self.num_lanes <= count else (len(range(lane % count, self.num_lanes, count)), lane // count)
        )
        failed = 0
        for shard in shards(places)[order(np.arange(len(places)))].tolist():
            met = len(self.reader.faults)
            for number, item in enumerate(self.reader.images(self.urls[shard])):
                failed = -1
                if number % sharing == mine and item[0] not in self.excluded:
                    yield item
            failed += failed >= 0 and len(self.reader.faults) > met
            if failed >= _HOPELESS:
                self._give_up(lane, f"{failed} shards in a row cannot be read")

    def _give_up(self, lane: int, why: str) -> NoReturn:
        told = "; ".join(f"{name}: {reason}" for name, reason in self.reader.faults[-2:])
        raise ValueError(f"lane {lane} of the stream {self.root!r} has nothing to read: {why}. {told}")
