"""The samples of a stream depend neither on the workers nor on failures of the server."""

import pickle
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from shard_files import jpeg, write_shard, write_shards
from stream_source import IMAGES, epoch_of, stream

from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.shards.indexed import ShardSource
from conmim_lightning.data.sources.shards.stream import StreamSource


def test_an_epoch_of_the_whole_collection_holds_every_image_once(shards: Path):
    contents = [content for _, content in epoch_of(stream(shards, shuffle_buffer=1))]
    assert len(contents) == 40
    assert set(contents) == IMAGES


def test_devices_never_share_an_image(shards: Path):
    ranks = [{c for _, c in epoch_of(stream(shards, shuffle_buffer=1), rank=rank, num_devices=2)} for rank in range(2)]
    assert [len(contents) for contents in ranks] == [20, 20]
    assert not ranks[0] & ranks[1]


def test_orders_differ_between_epochs_and_seeds(shards: Path):
    orders = {tuple(c for _, c in epoch_of(stream(shards, seed=seed), epoch)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4
    assert [c for _, c in epoch_of(stream(shards), 1)] == [c for _, c in epoch_of(stream(shards), 1)]


def test_more_lanes_than_shards_share_them_image_by_image(tmp_path: Path):
    write_shards(tmp_path, 12)
    source = stream(tmp_path, shards="00000.tar", lanes=4, samples_per_epoch=12, shuffle_buffer=1)
    assert Counter(c for _, c in epoch_of(source, batch_size=3)) == Counter(jpeg(number) for number in range(12))


def test_devices_have_equally_many_batches_from_uneven_shards(tmp_path: Path):
    write_shards(tmp_path, 1, 30, 2, 1)
    for rank in range(2):
        samples_of_rank = epoch_of(stream(tmp_path), rank=rank, num_devices=2)
        assert len(samples_of_rank) == 20


@pytest.mark.parametrize("workers", [1, 2])
def test_a_position_depends_neither_on_workers_nor_on_the_start(shards: Path, workers):
    whole = epoch_of(stream(shards))
    keys = [key for key, _ in whole]
    for start in (0, 15, 25):  # whole batches
        sources = [pickle.loads(pickle.dumps(stream(shards))) for _ in range(workers)]
        for source in sources:
            source.sampler(seed=0, rank=0, num_devices=1, batch_size=5)
        for batch, first in enumerate(range(start, 40, 5)):
            own = sources[batch % workers]  # as a loader distributes batches
            assert [own.read(key) for key in keys[first : first + 5]] == [c for _, c in whole[first : first + 5]]


def test_processes_share_the_lanes():
    source = stream("x", lanes=8)
    assert [source.workers(wanted) for wanted in (0, 1, 3, 7, 8, 16)] == [0, 1, 2, 4, 8, 8]


def test_a_broken_image_is_replaced_by_the_next_one_of_its_lane(shards: Path):
    source = stream(shards)
    keys = [key for key, _ in epoch_of(source)]
    assert source.substitute(keys[3].index, 12345) == keys[4].index
    ahead, here = source.read(keys[4]), source.read(keys[3])  # reading ahead loses no position
    assert (here, ahead) == tuple(c for _, c in epoch_of(stream(shards))[3:5])


def test_excluded_images_are_left_out(shards: Path):
    source = stream(shards, shuffle_buffer=1, samples_per_epoch=30)
    contents = {c for _, c in epoch_of(source.without({"00000.tar/000003.jpg"}), batch_size=3)}
    assert jpeg(3) not in contents
    assert jpeg(4) in contents


def test_only_excluded_images_are_an_error(tmp_path: Path):
    write_shards(tmp_path, 2)
    source = stream(tmp_path, shards="00000.tar", lanes=1).without({"00000.tar/000000.jpg", "00000.tar/000001.jpg"})
    with pytest.raises(ValueError, match="or only excluded ones"):
        epoch_of(source)


def test_images_are_named_as_in_shards_on_a_file_system(shards: Path):
    source, indexed = stream(shards), ShardSource(shards)
    names = {source.name(key.index) for key, _ in [(key, source.read(key)) for key in epoch_keys(source)[:5]]}
    assert names <= {indexed.name(index) for index in range(40)}
    assert len(names) == 5


def epoch_keys(source: StreamSource) -> list[SampleKey]:
    return list(source.sampler(seed=0, rank=0, num_devices=1, batch_size=5))


def test_lanes_are_reopened_once_the_devices_are_known(shards: Path):
    source = stream(shards)
    source.sampler(seed=0, rank=0, num_devices=1, batch_size=5)
    source.read(SampleKey(0, 0))
    assert epoch_of(source, num_devices=2) == epoch_of(stream(shards), num_devices=2)


class Server(BaseHTTPRequestHandler):
    """Serves a folder with ``faults``: by name, a list of what to do, one per request."""

    root: Path
    faults: dict[str, list[str]]
    requests: Counter

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        type(self).requests[name] += 1
        planned = type(self).faults.get(name, [])
        fault = planned.pop(0) if len(planned) > 1 else (planned[0] if planned else "")
        path = type(self).root / name
        if fault == "fail" or not path.exists():
            self.send_error(500 if fault else 404)
            return
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault == "truncate":
            self.wfile.write(content[: len(content) * 2 // 3])
            self.close_connection = True
        elif fault == "stall":
            self.wfile.write(content[: len(content) // 3])
            self.wfile.flush()
            time.sleep(3)
        else:
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        self.send_error(405)

    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture
def server(shards: Path) -> Iterator[type[Server]]:
    handler = type("Handler", (Server,), {"root": shards, "faults": {}, "requests": Counter()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.daemon_threads = True
        handler.url = f"http://127.0.0.1:{running.server_port}"
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield handler
        running.shutdown()


def test_a_server_and_a_folder_have_the_same_samples(server, shards: Path):
    assert [c for _, c in epoch_of(stream(server.url))] == [c for _, c in epoch_of(stream(shards))]


@pytest.mark.parametrize("fault", ["fail", "truncate", "stall"])
def test_a_shard_that_fails_once_is_read_again_without_loss(server, shards: Path, fault):
    server.faults["00002.tar"] = [fault, ""]
    source = stream(server.url, stall_timeout=0.5)
    assert [c for _, c in epoch_of(source)] == [c for _, c in epoch_of(stream(shards))]
    assert source.pop_faults() == []
    assert server.requests["00002.tar"] >= 2


@pytest.mark.parametrize("fault", ["fail", "truncate", "stall"])
def test_a_shard_that_keeps_failing_is_skipped_and_listed(server, fault):
    server.faults["00002.tar"] = [fault]
    source = stream(server.url, stall_timeout=0.3, shuffle_buffer=1)
    contents = [c for _, c in epoch_of(source)]
    assert len(contents) == 40, "another pass through the other shards fills the epoch"
    assert {jpeg(number) for number in (*range(20), *range(30, 40))} <= set(contents)
    names = {name for name, _ in source.pop_faults()}
    assert names == {"00002.tar"}
    assert source.pop_faults() == []


def test_no_readable_shard_is_an_error(server):
    for shard in range(4):
        server.faults[f"0000{shard}.tar"] = ["fail"]
    source = stream(server.url, retries=0)
    with pytest.raises(
        ValueError, match=r"lane 0 of the stream .* has nothing to read: .*left out after 0 images and 1"
    ):
        epoch_of(source)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples_per_epoch": 0}, "samples_per_epoch .* got 0"),
        ({"lanes": 0}, "lanes .* got 0"),
        ({"shuffle_buffer": 0}, "shuffle_buffer"),
        ({"retries": -1}, "retries .* got -1"),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        stream("x", **changes)


def test_a_gap_in_the_numbers_is_listed_and_not_the_end(server, shards: Path):
    """Also for a lane that has only missing shards, and over http."""
    for root, lanes in ((str(shards), 1), (str(shards), 8), (server.url, 4)):
        source = stream(root, shards="{00000..00011}.tar", lanes=lanes, retries=3)
        images = epoch_of(source)
        assert len(images) == 40
        missing = {name for name, reason in source.pop_faults() if reason.startswith("Missing")}
        assert missing <= {f"{number:05d}.tar" for number in range(4, 12)}
        assert len(missing) >= 4
    (shards / "00001.tar").unlink()
    assert len(epoch_of(stream(shards))) == 40


def test_a_lane_with_an_empty_shard_reads_no_other_lane(tmp_path: Path):
    """Whichever of its shards is missing, as its order differs between epochs."""
    write_shard(tmp_path / "00000.tar", {"readme.txt": b"x"})
    for epoch in range(4):
        with pytest.raises(ValueError, match="its shards hold no image"):
            stream(tmp_path, shards="{00000..00001}.tar", lanes=1, samples_per_epoch=1).read(SampleKey(epoch, 0))


def test_no_shard_at_all(shards: Path):
    with pytest.raises(ValueError, match=r"has nothing to read: its shards hold no image.*Missing: there is no such"):
        epoch_of(stream(shards, shards="{00090..00099}.tar"))
