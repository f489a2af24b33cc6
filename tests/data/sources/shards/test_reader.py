import io
import tarfile
from pathlib import Path

import pytest
from shard_files import jpeg, samples, write_shard, write_shards
from stream_source import epoch_of, stream

from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.selection import Selection
from conmim_lightning.data.sources.shards.indexed import ShardSource
from conmim_lightning.data.sources.shards.members import MemberChoice
from conmim_lightning.data.sources.shards.reader import ShardReader, expand

CHOICE = MemberChoice(Selection())


@pytest.mark.parametrize("options", [{"key": "x"}, {"client_kwargs": {"headers": {"Authorization": "x"}}}])
def test_secrets_are_rejected(options):
    with pytest.raises(ValueError, match="look like secrets"):
        stream("x", storage_options=options)


def test_time_limits_are_added_to_other_options():
    options = ShardReader("x", 0, 7.0, {"client_kwargs": {"trust_env": True}}, CHOICE)._options("https://x/y.tar")
    assert options["client_kwargs"]["trust_env"] is True
    assert options["client_kwargs"]["timeout"].sock_read == 7.0


def test_a_dead_host_fails_early(tmp_path: Path):
    source = stream("http://127.0.0.1:9", shards="{0000..0999}.tar", retries=0)
    with pytest.raises(ValueError, match="4 consecutive shards cannot be read"):
        epoch_of(source)


def test_a_shard_cut_between_two_images_is_detected(tmp_path: Path):
    (path,) = write_shards(tmp_path, 3)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"000001.jpg")])
    reader = ShardReader(str(tmp_path), 0, 1.0, {}, CHOICE)
    assert [content for _, content in reader.images(str(path))] == [jpeg(0)]
    assert "no end mark" in reader.pop_faults()[0][1]


def test_hostile_members_and_second_images_are_skipped(tmp_path: Path):
    members = samples(1, 1) | {"../000002.jpg": b"x", "/etc/x.jpg": b"y"} | samples(3, 1) | {"000003.png": b"z"}
    reader = ShardReader(str(tmp_path), 0, 1.0, {}, CHOICE)
    names = [name for name, _ in reader.images(str(write_shard(tmp_path / "x.tar", members)))]
    assert [name.rsplit("/", 1)[1] for name in names] == ["000001.jpg", "000003.jpg"]


def test_members_are_taken_as_in_shards_on_a_file_system(tmp_path: Path):
    """Names such as __x__ too; links and repeated names are left out, and counted."""
    path = write_shard(tmp_path / "x.tar", samples(1, 2) | {"__a__.jpg": jpeg(3), "__b__/4.jpg": jpeg(4)})
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("5.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "000001.jpg"
        archive.addfile(link)
        again = tarfile.TarInfo("000001.jpg")
        again.size = 9
        archive.addfile(again, io.BytesIO(bytes(9)))
    reader, source = ShardReader(str(tmp_path), 0, 1.0, {}, CHOICE), ShardSource(tmp_path)
    streamed = list(reader.images(str(path)))
    indexed = [(source.name(index), source.read(SampleKey(0, index))) for index in range(len(source))]
    assert streamed == indexed
    assert len(streamed) == 4
    ((_, reason),) = reader.pop_faults()
    for sentence in ("1 members that are not files", "1 members with the name of an earlier one"):
        assert sentence in reason
        assert any(sentence in note for note in source.notes)


def test_shards_by_pattern():
    assert expand("https://host/set/", "{08..11}.tar") == [f"https://host/set/{n:02d}.tar" for n in range(8, 12)]
