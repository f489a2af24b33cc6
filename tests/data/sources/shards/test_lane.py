import itertools
from pathlib import Path

import pytest
from shard_files import write_shards
from stream_source import IMAGES, epoch_of, stream

from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.samplers.lane import lane_and_position


@pytest.mark.parametrize("buffer", [1, 4, 256])
@pytest.mark.parametrize("counts", [(10, 10, 10, 10), (1, 30, 2, 1), (5, 12, 9)])
@pytest.mark.parametrize("num_devices", [1, 2])
def test_no_two_lanes_share_an_image_within_an_epoch(tmp_path: Path, buffer, counts, num_devices):
    write_shards(tmp_path, *counts)
    pattern = f"{{00000..{len(counts) - 1:05d}}}.tar"
    source = stream(tmp_path, shards=pattern, shuffle_buffer=buffer, samples_per_epoch=80)
    of_lane: dict[int, list[bytes]] = {}
    for rank in range(num_devices):
        for key, content in epoch_of(source, rank=rank, num_devices=num_devices):
            of_lane.setdefault(lane_and_position(key.index)[0], []).append(content)
    assert len(of_lane) == 2 * num_devices
    for one, other in itertools.combinations(of_lane.values(), 2):
        assert not set(one) & set(other)
    for contents in of_lane.values():  # a lane repeats no image before it has read all of its own
        own = len(set(contents))
        assert all(len(set(contents[start : start + own])) == own for start in range(0, len(contents) - own, own))


def test_a_pass_of_a_lane_is_complete_with_the_default_buffer(shards: Path):
    contents = [c for _, c in epoch_of(stream(shards, shuffle_buffer=256))]
    assert set(contents) == IMAGES


def test_positions_before_the_stored_ones_are_read_again(shards: Path):
    source = stream(shards)
    keys = [SampleKey(0, number) for number in range(30)]
    source.sampler(seed=0, rank=0, num_devices=1, batch_size=5)
    first = [source.read(key) for key in keys]
    assert source.read(keys[2]) == first[2]
    assert [source.read(key) for key in itertools.islice(keys, 3, 6)] == first[3:6]
