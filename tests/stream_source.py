"""Streams of 40 images in four shards."""

from pathlib import Path

from shard_files import jpeg

from conmim_lightning.data.sources.shards.stream import StreamSource

IMAGES = {jpeg(number) for number in range(40)}


def stream(root: Path | str, **changes) -> StreamSource:
    arguments = {"shards": "{00000..00003}.tar", "samples_per_epoch": 40, "lanes": 2, "shuffle_buffer": 4, "retries": 1}
    return StreamSource(str(root), **(arguments | changes))


def epoch_of(source: StreamSource, epoch: int = 0, rank: int = 0, num_devices: int = 1, batch_size: int = 5):
    sampler = source.sampler(seed=0, rank=rank, num_devices=num_devices, batch_size=batch_size)
    sampler.set_epoch(epoch)
    return [(key, source.read(key)) for key in sampler]
