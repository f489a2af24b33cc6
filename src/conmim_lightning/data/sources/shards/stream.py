"""Images in tar shards on a server or in a bucket, streamed through webdataset and fsspec."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from conmim_lightning.data.checks import check_at_least
from conmim_lightning.data.images.files import check_size
from conmim_lightning.data.images.formats import DEFAULT_FORMATS
from conmim_lightning.data.samplers.epoch import Permutation, ResumableSampler, SampleKey
from conmim_lightning.data.samplers.lane import LaneSampler, lane_and_position
from conmim_lightning.data.sources.base import Source
from conmim_lightning.data.sources.selection import Selection
from conmim_lightning.data.sources.shards.lane import Lane, pop_random
from conmim_lightning.data.sources.shards.members import MemberChoice, image_keys
from conmim_lightning.data.sources.shards.reader import Item, ShardReader, expand, reject_secrets
from conmim_lightning.rng import stream_seed

_PASS_STREAM, _BUFFER_STREAM, _DEAL_STREAM = -3, -4, -5
_MAX_FAILED = 4  # consecutive shards that fail before any image


class StreamSource(Source):
    """An endless stream with epochs of ``samples_per_epoch`` images; nothing is indexed or stored on disk.

    The stream is divided into lanes. Each lane reads its own shards, in an order that follows from (seed, epoch, lane),
    through a shuffle buffer; a batch comes from one lane. The content of a batch therefore depends neither on the
    number of loader processes nor on where a run was resumed. It does depend on ``lanes``, on the batch size and on the
    number of devices. Resuming reads the shards of each lane again up to the lane's position, without decoding.

    A shard that fails or stalls is opened again ``retries`` times, continuing after the last image. Then it is left out
    for this pass and listed. Every device reads the same number of batches whatever the shards hold, because a lane at
    its end repeats its shards. Within an epoch, no two lanes, hence no two devices, share an image. As shards are
    uneven, some lanes repeat images before others have finished. A lane whose shards are all missing reads those of the
    next one.

    Memory: ``shuffle_buffer`` encoded images per lane.

    Args:
        root: location of the shards, such as https://host/set, s3://bucket/set or a folder.
        shards: names below root, with ranges in braces, such as "{00000..01234}.tar".
        samples_per_epoch: images per epoch, over all devices.
        lanes: number of lanes per device; the number of loader processes must divide it.
        shuffle_buffer: number of images in the shuffle buffer of a lane, >= 1; 1 keeps the order.
        seed: seed of the order.
        retries: number of further attempts at a shard, >= 0.
        stall_timeout: seconds without a byte after which an attempt fails, over http; for buckets, give their
            libraries' timeouts as storage_options.
        storage_options: further arguments of fsspec's file system. No secrets, because the configuration is stored with
            every run; fsspec's libraries read those from the environment and from their own files.
        image_key: see ``ShardSource``.
        formats: see ``FolderSource``.
        include_hidden: see ``FolderSource``.

    Raises:
        ValueError: a number is out of range, webdataset is not installed, or storage_options hold a secret.
    """

    fixed = False

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
        image_key: str | Sequence[str] | None = None,
        formats: Sequence[str] = DEFAULT_FORMATS,
        include_hidden: bool = False,
    ) -> None:
        check_at_least(1, samples_per_epoch=samples_per_epoch, lanes=lanes, shuffle_buffer=shuffle_buffer)
        check_at_least(0, retries=retries)
        reject_secrets(storage_options or {})
        self.root = root
        self.urls = expand(root, shards)
        self.samples_per_epoch = samples_per_epoch
        self.lanes = lanes
        self.shuffle_buffer = shuffle_buffer
        self.seed = seed
        choice = MemberChoice(Selection(formats, include_hidden), image_keys(image_key))
        self.reader = ShardReader(root, retries, stall_timeout, storage_options or {}, choice)
        self.num_lanes = lanes  # over all devices, once the sampler knows them
        self.excluded: set[str] = set()
        self._close_lanes()

    def _close_lanes(self) -> None:
        self._lanes: dict[int, Lane] = {}
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, object]:
        """Pickle without open lanes."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_lanes", "_process")}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Start without open lanes."""
        self.__dict__ |= state
        self._close_lanes()

    def __len__(self) -> int:
        """Images per epoch, over all devices."""
        return self.samples_per_epoch

    def name(self, index: int) -> str:
        """Shard and member, relative to the root, of a recently read image; otherwise lane and position."""
        lane, position = lane_and_position(index)
        recent = self._lanes[lane].recent if lane in self._lanes else {}
        return recent[position][0] if position in recent else f"lane {lane} image {position}"

    def read(self, key: SampleKey, max_bytes: int | None = None) -> bytes:
        """Read the image at a position of a lane; fast if positions are requested in order."""
        if self._process != os.getpid():
            self._close_lanes()  # a loader process has its own
        number, position = lane_and_position(key.index)
        lane = self._lanes.get(number)
        if lane is None or lane.epoch != key.epoch or position < lane.oldest:
            lane = self._lanes[number] = Lane(key.epoch, self._images(key.epoch, number))
        content = lane.get(position)[1]
        check_size(len(content), max_bytes)
        return content

    def substitute(self, index: int, draw: int) -> int:
        """Return the index of the next image of the lane."""
        return index + 1

    def pop_faults(self) -> list[tuple[str, str]]:
        """Return the name and reason of each shard that was left out since the last call."""
        return self.reader.pop_faults()

    def sampler(self, *, seed: int, rank: int, num_devices: int, batch_size: int) -> ResumableSampler:
        """Return a sampler that takes each batch from one lane."""
        self.num_lanes = self.lanes * num_devices
        self._close_lanes()  # lanes that were opened before the number of devices was known hold other images
        return LaneSampler(
            self.samples_per_epoch // num_devices,
            lanes=self.lanes,
            batch_size=batch_size,
            rank=rank,
            num_devices=num_devices,
        )

    def fingerprint(self) -> str:
        """Return a digest of everything that determines the image at a position."""
        settings = (self.num_lanes, self.shuffle_buffer, self.samples_per_epoch, self.seed)
        text = "\n".join(map(str, (*self.urls, *settings, *sorted(self.excluded))))
        return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()

    def workers(self, wanted: int) -> int:
        """Return the largest number up to ``wanted`` that divides the number of lanes per device."""
        return max((number for number in range(1, wanted + 1) if self.lanes % number == 0), default=0)

    def without(self, names: set[str]) -> "StreamSource":
        """Leave images out while reading."""
        self.excluded = names
        return self

    def _images(self, epoch: int, lane: int) -> Iterator[Item]:
        """Yield a lane's images, shuffled, endlessly: pass after pass through its shards."""
        pass_number = borrowed = 0
        while True:
            rng = np.random.default_rng(stream_seed(self.seed, epoch, lane, pass_number, _BUFFER_STREAM))
            buffer: list[Item] = []
            is_empty, missing = True, self.reader.num_missing
            shards = self._shards(epoch, (lane + borrowed) % self.num_lanes, pass_number)
            for item in self._one_pass(shards, (lane + borrowed) % self.num_lanes):
                is_empty = False
                buffer.append(item)
                if len(buffer) >= self.shuffle_buffer:
                    yield pop_random(buffer, rng)
            while buffer:
                yield pop_random(buffer, rng)
            if is_empty and self.reader.num_missing - missing == len(shards) and borrowed < self.num_lanes:
                borrowed += 1  # all its shards are missing: read those of the next lane
            elif is_empty:
                self._give_up(lane, "its shards hold no image, or only excluded ones")
            pass_number += 1

    def _shards(self, epoch: int, lane: int, pass_number: int) -> list[int]:
        """Return a lane's shards, which are fixed within an epoch, in the order of a pass."""
        count = len(self.urls)
        shards = Permutation(count, stream_seed(self.seed, epoch, _DEAL_STREAM))
        positions = np.arange(lane, count, self.num_lanes) if self.num_lanes <= count else np.asarray([lane % count])
        order = Permutation(len(positions), stream_seed(self.seed, epoch, lane, pass_number, _PASS_STREAM))
        return shards(positions)[order(np.arange(len(positions)))].tolist()

    def _one_pass(self, shards: Sequence[int], lane: int) -> Iterator[Item]:
        """Yield the images of a lane's shards; lanes share shards if these are few."""
        count, sharing, turn = len(self.urls), 1, 0
        if self.num_lanes > count:
            sharing, turn = len(range(lane % count, self.num_lanes, count)), lane // count
        failed = 0
        for shard in shards:
            faults, missing = len(self.reader.faults), self.reader.num_missing
            for number, item in enumerate(self.reader.images(self.urls[shard])):
                failed = -1
                if number % sharing == turn and item[0] not in self.excluded:
                    yield item
            failed += failed >= 0 and len(self.reader.faults) > faults and self.reader.num_missing == missing
            if failed >= _MAX_FAILED:
                self._give_up(lane, f"{failed} consecutive shards cannot be read")

    def _give_up(self, lane: int, reason: str) -> NoReturn:
        faults = "; ".join(f"{name}: {fault}" for name, fault in self.reader.faults[-2:])
        raise ValueError(f"lane {lane} of the stream {self.root!r} has nothing to read: {reason}. {faults}")
