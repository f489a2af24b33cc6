import gzip
import io
import os
import pickle
import tarfile
from pathlib import Path

import pytest
from shard_files import picture, samples, write_shard, write_shards

from conmim_lightning.data.files import BrokenImageError
from conmim_lightning.data.sampler import SampleKey
from conmim_lightning.data.shards import ShardSource
from conmim_lightning.data.tar_index import index_shard, is_hostile, split_key


def read(source, index: int) -> bytes:
    return source.read(SampleKey(0, index))


def test_every_image_at_random(tmp_path: Path):
    write_shards(tmp_path, 5, 1, 7)
    source = ShardSource(tmp_path)
    assert len(source) == 13
    assert [read(source, index) for index in (12, 0, 5, 4, 6)] == [picture(number) for number in (12, 0, 5, 4, 6)]
    assert [source.name(index) for index in (4, 5, 6)] == [
        "00000.tar/000004.jpg",
        "00001.tar/000005.jpg",
        "00002.tar/000006.jpg",
    ]


def test_nested_shards_nested_members_and_empty_shards(tmp_path: Path):
    write_shard(tmp_path / "b" / "y.tar", {"dir/sub.dir/1.jpg": picture(1), "./2.png": picture(2)})
    write_shard(tmp_path / "a.tar", {})
    source = ShardSource(tmp_path)
    assert [source.name(index) for index in range(2)] == ["b/y.tar/dir/sub.dir/1.jpg", "b/y.tar/./2.png"]
    assert read(source, 1) == picture(2)


def test_more_shards_than_open_files(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("conmim_lightning.data.shards._OPEN_FILES", 2)
    write_shards(tmp_path, *[2] * 7)
    source = ShardSource(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        assert [read(source, index) for index in range(14)] == [picture(number) for number in range(14)]
    assert len(os.listdir("/proc/self/fd")) - before <= 2


def test_labels(tmp_path: Path):
    members = {"1.jpg": picture(1), "1.cls": b"3\n", "2.cls": b"0", "2.jpg": picture(2)}
    write_shard(tmp_path / "a.tar", members)
    source = ShardSource(tmp_path, labelled=True)
    assert [source.label(0), source.label(1)] == [3, 0]
    assert source.classes == ["0", "1", "2", "3"]
    with pytest.raises(ValueError, match=r"1 of 2 images .* no label from 0 to 1 .* first is 'a.tar/1.jpg'"):
        ShardSource(tmp_path, labelled=True, classes=["a", "b"])
    write_shard(tmp_path / "b.tar", samples(5, 1))
    with pytest.raises(ValueError, match=r"b.tar/000005.jpg"):
        ShardSource(tmp_path, labelled=True)


def test_only_shards_that_changed_are_read_again(tmp_path: Path, monkeypatch):
    root, index_dir = tmp_path / "set", str(tmp_path / "index")
    write_shards(root, 4, 3, 5)
    first = ShardSource(root, index_dir=index_dir)
    wanted = [first.name(index) for index in range(12)]
    seen = []

    def watched(path: str):
        seen.append(Path(path).name)
        return index_shard(path)

    monkeypatch.setattr("conmim_lightning.data.shard_index.index_shard", watched)
    again = ShardSource(root, index_dir=index_dir)
    assert ([again.name(index) for index in range(12)], seen) == (wanted, [])
    write_shard(root / "00001.tar", samples(50, 2))
    changed = ShardSource(root, index_dir=index_dir)
    assert seen == ["00001.tar"]
    assert [read(changed, index) for index in (3, 4, 5, 6)] == [picture(number) for number in (3, 50, 51, 7)]
    (root / "00000.tar").unlink()
    assert len(ShardSource(root, index_dir=index_dir)) == 7
    assert seen == ["00001.tar"]


def test_workers_get_the_name_of_the_index(tmp_path: Path):
    write_shards(tmp_path / "set", 300)
    source = ShardSource(tmp_path / "set", index_dir=str(tmp_path / "index"))
    read(source, 3)
    sent = pickle.dumps(source)
    assert len(sent) < 1000
    assert read(pickle.loads(sent), 7) == picture(7)


def tar_with(*infos: tuple[tarfile.TarInfo, bytes]) -> bytes:
    with io.BytesIO() as buffer:
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for info, content in infos:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return buffer.getvalue()


def info_of(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


GOOD = tar_with(*((info_of(f"{number}.jpg"), picture(number)) for number in range(3)))


def long_names(count: int) -> bytes:
    """Headers that each announce a longer name for the next one."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 5
    return (info.tobuf(tarfile.GNU_FORMAT) + b"name\0".ljust(512, b"\0")) * count


SECOND = GOOD.index(b"1.jpg")  # header of the second member


def with_size(field: bytes) -> bytes:
    """The second member's header with another size, and a right checksum."""
    header = bytearray(GOOD[SECOND : SECOND + 512])
    header[124:136] = field
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return GOOD[:SECOND] + bytes(header) + GOOD[SECOND + 512 :]


BROKEN_SHARDS = {
    "a negative size": (with_size(b"\xff" * 10 + b"\xfe\x00"), 1, "damaged|truncated"),
    "an absurd size": (with_size(b"77777777777\0"), 1, "truncated: it ends within '1.jpg'"),
    "long names without end": (long_names(3000), 0, "not readable|damaged|truncated"),
    "cut in an image": (GOOD[: SECOND + 700], 1, "truncated: it ends within '1.jpg'"),
    "cut in a header": (GOOD[: SECOND + 100], 1, "damaged|truncated|no end mark"),
    "cut between two members": (GOOD[:SECOND], 1, "no end mark: perhaps it was cut off"),
    "cut at once": (GOOD[:100], 0, "not readable as a tar archive"),
    "empty": (b"", 0, "not readable as a tar archive"),
    "a text": (b"<html>not found</html>" * 40, 0, "not readable as a tar archive"),
    "damaged header": (GOOD[:SECOND] + b"\xff" * 300 + GOOD[SECOND + 300 :], 1, f"damaged: no header at byte {SECOND}"),
    "compressed": (gzip.compress(GOOD), 0, "compressed with gzip: its images cannot be read at random"),
    "outside by ..": (
        tar_with((info_of("../../etc/1.jpg"), b"x"), (info_of("2.jpg"), b"y")),
        1,
        r"1 .* lead out .*etc",
    ),
    "outside by /": (tar_with((info_of("/etc/1.jpg"), b"x"), (info_of("2.jpg"), b"y")), 1, "1 .* lead out .*'/etc"),
    "a link": (
        tar_with((info_of("1.jpg", tarfile.SYMTYPE, "/etc/passwd"), b""), (info_of("2.jpg"), b"y")),
        1,
        "no files",
    ),
    "a hard link": (
        tar_with((info_of("2.jpg"), b"y"), (info_of("1.jpg", tarfile.LNKTYPE, "2.jpg"), b"")),
        1,
        "no files",
    ),
    "a device": (tar_with((info_of("1.jpg", tarfile.CHRTYPE), b""), (info_of("2.jpg"), b"y")), 1, "no files"),
    "one name twice": (
        tar_with((info_of("1.jpg"), b"x"), (info_of("1.jpg"), b"y")),
        1,
        "1 members with the name of an",
    ),
    "two images of a sample": (tar_with((info_of("1.jpg"), b"x"), (info_of("1.png"), b"y")), 1, "second image .*1.png"),
    "no image": (
        tar_with((info_of("1.txt"), b"x"), (info_of("1.json"), b"y"), (info_of("2.jpg"), b"z")),
        1,
        "1 samples",
    ),
}


@pytest.mark.parametrize("kind", BROKEN_SHARDS)
def test_broken_shards_are_told_and_survived(tmp_path: Path, kind):
    content, images, told = BROKEN_SHARDS[kind]
    (tmp_path / "broken.tar").write_bytes(content)
    write_shards(tmp_path / "good", 2)
    source = ShardSource(tmp_path)
    assert len(source) == 2 + images
    assert all(len(read(source, index)) > 0 for index in range(len(source)))
    assert len(source.notes) == 1
    import re

    assert re.search(told, source.notes[0]), source.notes
    assert source.notes[0].startswith("broken.tar: ")


def test_a_name_that_is_not_unicode(tmp_path: Path):
    write_shard(tmp_path / "a.tar", {"\udcff.jpg": picture(1)})
    assert ShardSource(tmp_path).name(0) == "a.tar/\udcff.jpg"


def test_a_shard_cut_after_it_was_indexed(tmp_path: Path):
    (path,) = write_shards(tmp_path, 3)
    source = ShardSource(tmp_path)
    os.truncate(path, 600)
    with pytest.raises(BrokenImageError, match=r"Truncated: the shard ends after \d+ of the image's \d+ bytes"):
        read(source, 0)
    path.unlink()
    fresh = pickle.loads(pickle.dumps(source))
    with pytest.raises(BrokenImageError, match="FileNotFoundError"):
        read(fresh, 0)


def test_limits(tmp_path: Path):
    write_shard(tmp_path / "a.tar", {"1.jpg": b"", "2.jpg": b"12345"})
    source = ShardSource(tmp_path)
    with pytest.raises(BrokenImageError, match="Empty"):
        read(source, 0)
    with pytest.raises(BrokenImageError, match="TooLarge: 5 bytes, more than 4"):
        source.read(SampleKey(0, 1), 4)


def test_nothing_to_read(tmp_path: Path):
    with pytest.raises(ValueError, match=r"no file below it ends in .tar"):
        ShardSource(tmp_path)
    (tmp_path / "x.tar").write_bytes(b"")
    with pytest.raises(ValueError, match=r"no image in the shards .*x.tar: not readable"):
        ShardSource(tmp_path)
    with pytest.raises(ValueError, match="nowhere' does not exist"):
        ShardSource(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "key", "extension"),
    [("a/b.c/1.Seg.PNG", "a/b.c/1", "seg.png"), ("1.jpg", "1", "jpg"), ("x", "x", ""), (".hidden", ".hidden", "")],
)
def test_keys(name, key, extension):
    assert split_key(name) == (key, extension)


def test_hostile_names():
    assert all(map(is_hostile, ("/x", "../x", "a/../../x", "a/..")))
    assert not any(map(is_hostile, ("x", "./x", "a..b/x", "a/b")))


def test_what_only_has_the_name_of_a_shard(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.tar")
    (tmp_path / "folder.tar").mkdir()
    (tmp_path / "gone.tar").symlink_to(tmp_path / "nowhere")
    write_shards(tmp_path / "good", 2)
    source = ShardSource(tmp_path)
    assert len(source) == 2
    assert source.notes == [
        f"{name}: not readable as a tar archive: it is no file" for name in ("gone.tar", "pipe.tar")
    ]


@pytest.mark.slow
def test_many_shards_are_indexed_in_parallel(tmp_path: Path):
    write_shards(tmp_path, *[3] * 9)
    source = ShardSource(tmp_path)
    assert [read(source, index) for index in range(27)] == [picture(number) for number in range(27)]
