"""Streams: the same samples whatever the workers and however often the server fails."""

import itertools
import pickle
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from shard_files import picture, samples, write_shard, write_shards

from conmim_lightning.data.lane_sampler import LaneSampler, lane_and_place
from conmim_lightning.data.sampler import SampleKey
from conmim_lightning.data.shard_stream import ShardReader, expand
from conmim_lightning.data.shards import ShardSource
from conmim_lightning.data.stream import StreamSource


def stream(root: Path | str, **changes) -> StreamSource:
    arguments = {"shards": "{00000..00003}.tar", "samples_per_epoch": 40, "lanes": 2, "shuffle_buffer": 4, "retries": 1}
    return StreamSource(str(root), **(arguments | changes))


def epoch_of(source: StreamSource, epoch: int = 0, rank: int = 0, num_devices: int = 1, batch_size: int = 5):
    sampler = source.sampler(seed=0, rank=rank, num_devices=num_devices, batch_size=batch_size)
    sampler.set_epoch(epoch)
    return [(key, source.read(key)) for key in sampler]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    write_shards(tmp_path, 10, 10, 10, 10)
    return tmp_path


PICTURES = {picture(number) for number in range(40)}


def test_an_epoch_of_the_whole_collection_holds_every_image_once(shards: Path):
    contents = [content for _, content in epoch_of(stream(shards, shuffle_buffer=1))]
    assert len(contents) == 40
    assert set(contents) == PICTURES


def test_devices_never_share_an_image(shards: Path):
    parts = [{c for _, c in epoch_of(stream(shards, shuffle_buffer=1), rank=rank, num_devices=2)} for rank in range(2)]
    assert [len(part) for part in parts] == [20, 20]
    assert not parts[0] & parts[1]


def test_orders_differ_between_epochs_and_seeds(shards: Path):
    orders = {tuple(c for _, c in epoch_of(stream(shards, seed=seed), epoch)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4
    assert [c for _, c in epoch_of(stream(shards), 1)] == [c for _, c in epoch_of(stream(shards), 1)]


def test_more_lanes_than_shards_share_them_image_by_image(tmp_path: Path):
    write_shards(tmp_path, 12)
    source = stream(tmp_path, shards="00000.tar", lanes=4, samples_per_epoch=12, shuffle_buffer=1)
    assert Counter(c for _, c in epoch_of(source, batch_size=3)) == Counter(picture(number) for number in range(12))


def test_every_device_takes_as_many_batches_however_uneven_the_shards(tmp_path: Path):
    write_shards(tmp_path, 1, 30, 2, 1)
    for rank in range(2):
        found = epoch_of(stream(tmp_path), rank=rank, num_devices=2)
        assert len(found) == 20


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_place_holds_depends_neither_on_workers_nor_on_where_a_run_goes_on(shards: Path, workers):
    whole = epoch_of(stream(shards))
    keys = [key for key, _ in whole]
    for start in (0, 15, 25):  # whole batches
        sources = [pickle.loads(pickle.dumps(stream(shards))) for _ in range(workers)]
        for source in sources:
            source.sampler(seed=0, rank=0, num_devices=1, batch_size=5)
        for batch, first in enumerate(range(start, 40, 5)):
            mine = sources[batch % workers]  # as a loader deals batches out
            assert [mine.read(key) for key in keys[first : first + 5]] == [c for _, c in whole[first : first + 5]]


def test_the_sampler_goes_on_within_its_epoch():
    sampler = LaneSampler(40, lanes=2, batch_size=5, rank=1, num_devices=3)
    sampler.set_epoch(2)
    whole = list(sampler)
    sampler.resume(2, 15)
    assert list(sampler) == whole[15:]
    assert {lane_and_place(key.index)[0] for key in whole[:5]} == {1}
    assert {lane_and_place(key.index)[0] for key in whole[5:10]} == {4}
    assert [lane_and_place(key.index)[1] for key in whole[10:15]] == [5, 6, 7, 8, 9]


def test_processes_divide_the_lanes():
    source = stream("x", lanes=8)
    assert [source.workers(wanted) for wanted in (0, 1, 3, 7, 8, 16)] == [0, 1, 2, 4, 8, 8]


def test_a_broken_image_is_replaced_by_the_next_one_of_its_lane(shards: Path):
    source = stream(shards)
    keys = [key for key, _ in epoch_of(source)]
    assert source.substitute(keys[3].index, 12345) == keys[4].index
    ahead, here = source.read(keys[4]), source.read(keys[3])  # looking ahead does not lose a place
    assert (here, ahead) == tuple(c for _, c in epoch_of(stream(shards))[3:5])


def test_excluded_images_do_not_come(shards: Path):
    source = stream(shards, shuffle_buffer=1, samples_per_epoch=30)
    contents = {c for _, c in epoch_of(source.without({"00000.tar/000003.jpg"}), batch_size=3)}
    assert picture(3) not in contents
    assert picture(4) in contents


def test_nothing_but_excluded_images_is_an_error(tmp_path: Path):
    write_shards(tmp_path, 2)
    source = stream(tmp_path, shards="00000.tar", lanes=1).without({"00000.tar/000000.jpg", "00000.tar/000001.jpg"})
    with pytest.raises(ValueError, match="none that is not excluded"):
        epoch_of(source)


def test_images_are_named_as_in_shards_on_a_file_system(shards: Path):
    source, indexed = stream(shards), ShardSource(shards)
    names = {source.name(key.index) for key, _ in [(key, source.read(key)) for key in epoch_keys(source)[:5]]}
    assert names <= {indexed.name(index) for index in range(40)}
    assert len(names) == 5


def epoch_keys(source: StreamSource) -> list[SampleKey]:
    return list(source.sampler(seed=0, rank=0, num_devices=1, batch_size=5))


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
            of_lane.setdefault(lane_and_place(key.index)[0], []).append(content)
    assert len(of_lane) == 2 * num_devices
    for one, other in itertools.combinations(of_lane.values(), 2):
        assert not set(one) & set(other)
    for contents in of_lane.values():  # and a lane repeats no image before it has had all of its own
        mine = len(set(contents))
        assert all(len(set(contents[start : start + mine])) == mine for start in range(0, len(contents) - mine, mine))


def test_a_pass_of_a_lane_is_whole_with_the_default_buffer(shards: Path):
    contents = [c for _, c in epoch_of(stream(shards, shuffle_buffer=256))]
    assert set(contents) == PICTURES


def test_lanes_opened_before_the_devices_were_known_are_forgotten(shards: Path):
    source = stream(shards)
    source.sampler(seed=0, rank=0, num_devices=1, batch_size=5)
    source.read(SampleKey(0, 0))
    assert epoch_of(source, num_devices=2) == epoch_of(stream(shards), num_devices=2)


@pytest.mark.parametrize("options", [{"key": "x"}, {"client_kwargs": {"headers": {"Authorization": "x"}}}])
def test_secrets_do_not_belong_here(options):
    with pytest.raises(ValueError, match="look like secrets"):
        stream("x", storage_options=options)


def test_time_limits_stay_beside_other_options():
    options = ShardReader("x", 0, 7.0, {"client_kwargs": {"trust_env": True}})._options("https://x/y.tar")
    assert options["client_kwargs"]["trust_env"] is True
    assert options["client_kwargs"]["timeout"].sock_read == 7.0


def test_a_dead_host_is_told_soon(tmp_path: Path):
    source = stream("http://127.0.0.1:9", shards="{0000..0999}.tar", retries=0)
    with pytest.raises(ValueError, match="4 shards in a row cannot be read"):
        epoch_of(source)


class Server(BaseHTTPRequestHandler):
    """Serves a folder; what it does to whom stands in ``faults``: name to a list of what to do, one a request."""

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


def test_a_server_gives_what_the_folder_gives(server, shards: Path):
    assert [c for _, c in epoch_of(stream(server.url))] == [c for _, c in epoch_of(stream(shards))]


@pytest.mark.parametrize("fault", ["fail", "truncate", "stall"])
def test_a_shard_that_fails_once_is_read_again_without_loss(server, shards: Path, fault):
    server.faults["00002.tar"] = [fault, ""]
    source = stream(server.url, stall_timeout=0.5)
    assert [c for _, c in epoch_of(source)] == [c for _, c in epoch_of(stream(shards))]
    assert source.take_faults() == []
    assert server.requests["00002.tar"] >= 2


@pytest.mark.parametrize("fault", ["fail", "truncate", "stall"])
def test_a_shard_that_keeps_failing_is_left_out_and_listed(server, fault):
    server.faults["00002.tar"] = [fault]
    source = stream(server.url, stall_timeout=0.3, shuffle_buffer=1)
    contents = [c for _, c in epoch_of(source)]
    assert len(contents) == 40, "another pass through the other shards fills the epoch"
    assert {picture(number) for number in (*range(20), *range(30, 40))} <= set(contents)
    names = {name for name, _ in source.take_faults()}
    assert names == {"00002.tar"}
    assert source.take_faults() == []


def test_nothing_to_read_is_an_error(server):
    for number in range(4):
        server.faults[f"0000{number}.tar"] = ["fail"]
    source = stream(server.url, retries=0)
    with pytest.raises(
        ValueError, match=r"lane 0 of the stream .* has nothing to read: .*left out after 0 images and 1"
    ):
        epoch_of(source)


def test_a_shard_cut_between_two_images_is_noticed(tmp_path: Path):
    (path,) = write_shards(tmp_path, 3)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"000001.jpg")])
    reader = ShardReader(str(tmp_path), 0, 1.0, {})
    assert [content for _, content in reader.images(str(path))] == [picture(0)]
    assert "no end mark" in reader.take_faults()[0][1]


def test_hostile_members_and_second_images_are_left_out(tmp_path: Path):
    members = samples(1, 1) | {"../000002.jpg": b"x", "/etc/x.jpg": b"y"} | samples(3, 1) | {"000003.png": b"z"}
    reader = ShardReader(str(tmp_path), 0, 1.0, {})
    found = [name for name, _ in reader.images(str(write_shard(tmp_path / "x.tar", members)))]
    assert [name.rsplit("/", 1)[1] for name in found] == ["000001.jpg", "000003.jpg"]


def test_shards_by_pattern():
    assert expand("https://host/set/", "{08..11}.tar") == [f"https://host/set/{n:02d}.tar" for n in range(8, 12)]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"samples_per_epoch": 0}, "samples_per_epoch .* got 0"),
        ({"lanes": 0}, "lanes .* got 0"),
        ({"shuffle_buffer": 0}, "shuffle_buffer"),
        ({"retries": -1}, "retries .* got -1"),
    ],
)
def test_bad_arguments(changes, told):
    with pytest.raises(ValueError, match=told):
        stream("x", **changes)


def test_places_before_the_kept_ones_are_read_again(shards: Path):
    source = stream(shards)
    keys = [SampleKey(0, number) for number in range(30)]
    source.sampler(seed=0, rank=0, num_devices=1, batch_size=5)
    first = [source.read(key) for key in keys]
    assert source.read(keys[2]) == first[2]
    assert [source.read(key) for key in itertools.islice(keys, 3, 6)] == first[3:6]
