import gzip
import io
import re
import tarfile
from pathlib import Path

import pytest
from shard_files import jpeg, write_shard, write_shards

from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.shards.indexed import ShardSource


def read(source, index: int) -> bytes:
    return source.read(SampleKey(0, index))


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


GOOD = tar_with(*((info_of(f"{number}.jpg"), jpeg(number)) for number in range(3)))


def long_names(count: int) -> bytes:
    """Headers that each announce a longer name for the next one."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 5
    return (info.tobuf(tarfile.GNU_FORMAT) + b"name\0".ljust(512, b"\0")) * count


SECOND = GOOD.index(b"1.jpg")  # header of the second member


def with_size(field: bytes) -> bytes:
    """The second member's header with another size and a correct checksum."""
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
    "cut between two members": (GOOD[:SECOND], 1, "no end mark: possibly truncated"),
    "cut at once": (GOOD[:100], 0, "not readable as a tar archive"),
    "empty": (b"", 0, "not readable as a tar archive"),
    "a text": (b"<html>not found</html>" * 40, 0, "not readable as a tar archive"),
    "damaged header": (GOOD[:SECOND] + b"\xff" * 300 + GOOD[SECOND + 300 :], 1, f"damaged: no header at byte {SECOND}"),
    "compressed": (gzip.compress(GOOD), 0, "compressed with gzip: random access is impossible"),
    "outside by ..": (
        tar_with((info_of("../../etc/1.jpg"), b"x"), (info_of("2.jpg"), b"y")),
        1,
        r"1 .* lead out .*etc",
    ),
    "outside by /": (tar_with((info_of("/etc/1.jpg"), b"x"), (info_of("2.jpg"), b"y")), 1, "1 .* lead out .*'/etc"),
    "a link": (
        tar_with((info_of("1.jpg", tarfile.SYMTYPE, "/etc/passwd"), b""), (info_of("2.jpg"), b"y")),
        1,
        "are not files",
    ),
    "a hard link": (
        tar_with((info_of("2.jpg"), b"y"), (info_of("1.jpg", tarfile.LNKTYPE, "2.jpg"), b"")),
        1,
        "are not files",
    ),
    "a device": (tar_with((info_of("1.jpg", tarfile.CHRTYPE), b""), (info_of("2.jpg"), b"y")), 1, "are not files"),
    "one name twice": (
        tar_with((info_of("1.jpg"), b"x"), (info_of("1.jpg"), b"y")),
        1,
        "1 members with the name of an",
    ),
    "two images of a sample": (
        tar_with((info_of("1.jpg"), b"x"), (info_of("1.png"), b"y")),
        1,
        "further images of a sample .*1.png",
    ),
    "no image": (
        tar_with((info_of("1.txt"), b"x"), (info_of("1.json"), b"y"), (info_of("2.jpg"), b"z")),
        1,
        "1 samples",
    ),
}


@pytest.mark.parametrize("kind", BROKEN_SHARDS)
def test_broken_shards_are_noted_and_skipped(tmp_path: Path, kind):
    content, images, message = BROKEN_SHARDS[kind]
    (tmp_path / "broken.tar").write_bytes(content)
    write_shards(tmp_path / "good", 2)
    source = ShardSource(tmp_path)
    assert len(source) == 2 + images
    assert all(len(read(source, index)) > 0 for index in range(len(source)))
    assert len(source.notes) == 1
    assert re.search(message, source.notes[0]), source.notes
    assert source.notes[0].startswith("broken.tar: ")


def test_a_name_that_is_not_unicode(tmp_path: Path):
    write_shard(tmp_path / "a.tar", {"\udcff.jpg": jpeg(1)})
    assert ShardSource(tmp_path).name(0) == "a.tar/\udcff.jpg"
