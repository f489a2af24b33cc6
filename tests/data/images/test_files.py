"""Anything that may have the name of an image in a collection: it is counted, named, and does not end a run."""

import os
import re
import shutil
import socket
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conmim_lightning.data.datasets.pretrain import PretrainDataset
from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.images.files import BrokenImageError, check_folder, read_file
from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.sources.manifest import ManifestSource
from conmim_lightning.data.sources.name_list import from_line
from conmim_lightning.data.transforms.crop import RandomResizedCrop
from conmim_lightning.masking.random_units import RandomUnitMasking
from conmim_lightning.perturbation.draw import PerturbationDraw


def encoded(kind: str, size: tuple[int, int] = (60, 40), **options) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    with BytesIO() as buffer:
        Image.fromarray(pixels).save(buffer, kind, **options)
        return buffer.getvalue()


def png_of(width: int, height: int) -> bytes:
    """Header of a PNG of any size, without pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", len(header))
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + b"\0\0\x10\0IDAT"
    )


JPEG, PNG = encoded("JPEG"), encoded("PNG")
SCAN = JPEG.index(b"\xff\xda")
BROKEN_CONTENT = {
    "empty.jpg": (b"", "Empty"),
    "two bytes.jpg": (JPEG[:2], "UnidentifiedImageError"),
    "head only.jpg": (JPEG[:20], "UnidentifiedImageError|SyntaxError|OSError"),
    "cut before the scan.jpg": (JPEG[:SCAN], "OSError|SyntaxError|Unidentified"),
    "cut in the scan.jpg": (JPEG[: SCAN + 200], "OSError"),
    "cut late.jpg": (JPEG[:-200], "OSError"),
    "html.jpg": (b"<html><body>404 not found</body></html>", "UnidentifiedImageError"),
    "text.png": (b"no image at all", "UnidentifiedImageError"),
    "random.webp": (bytes(range(256)) * 8, "UnidentifiedImageError"),
    "cut.png": (PNG[: len(PNG) // 2], "OSError|SyntaxError"),
    "bad checksum.png": (PNG[:23] + b"\1" + PNG[24:], "SyntaxError|Unidentified|OSError"),
    "cut.gif": (encoded("GIF")[:120], "OSError|EOFError|IndexError|Unidentified"),
    "cut.webp": (encoded("WEBP")[:300], "OSError|Unidentified|ValueError"),
    "cut.bmp": (encoded("BMP")[:300], "OSError"),
    "absurd offset.tiff": (b"II*\0\xff\xff\xff\x7f" + bytes(50), "OSError|Unidentified|TypeError|KeyError|SyntaxError"),
    "bomb.png": (png_of(60_000, 60_000), "TooLarge: 60000 x 60000 pixels"),
    "zero-sized.png": (png_of(0, 10), "Unidentified|SyntaxError|ValueError|OSError|TooLarge"),
    "too many scans.jpg": (encoded("JPEG", progressive=True) + b"\xff\xda" * 101, "TooManyScans: 1[01][0-9] scans"),
    "many bytes.jpg": (encoded("JPEG", (500, 400), quality=100), "TooLarge: [0-9]+ bytes, more than 50000"),
    "\udcff\udcfe not utf-8.jpg": (b"no image", "UnidentifiedImageError"),
    "new\nline and\ttab.jpg": (b"no image", "UnidentifiedImageError"),
}
ODD_BUT_GOOD = {
    "a png.jpg": PNG,
    "a jpeg.png": JPEG,
    "upper.JPG": JPEG,
    "odd exif.jpg": encoded("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(40)),
    "text behind.jpg": JPEG + b"trailing text" * 50,
}


def special_files(root: Path) -> dict[str, str]:
    """Names of other things than files, with the expected reason."""
    os.mkfifo(root / "pipe.jpg")
    (root / "device.jpg").symlink_to("/dev/zero")
    (root / "dangling.jpg").symlink_to(root / "nowhere.jpg")
    (root / "circle.jpg").symlink_to(root / "circle.jpg")
    with socket.socket(socket.AF_UNIX) as connection:
        here = Path.cwd()
        os.chdir(root)  # names of sockets are short
        connection.bind("socket.jpg")
        os.chdir(here)
    return {
        "pipe.jpg": "it is a pipe",
        "device.jpg": "it is a device",
        "dangling.jpg": "FileNotFoundError",
        "circle.jpg": "OSError: Too many levels",
        "socket.jpg": "OSError: No such device|it is a socket",
    }


@pytest.fixture
def collection(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A folder of all of them among good images, and the expected reasons."""
    root = tmp_path / "images"
    root.mkdir()
    for number in range(12):
        (root / f"good{number}.jpg").write_bytes(JPEG)
    for name, (content, _) in BROKEN_CONTENT.items():
        (root / name).write_bytes(content)
    for name, content in ODD_BUT_GOOD.items():
        (root / name).write_bytes(content)
    (root / "folder.jpg").mkdir()
    (root / "folder.jpg" / "inside.jpg").write_bytes(JPEG)
    return root, {name: reason for name, (_, reason) in BROKEN_CONTENT.items()} | special_files(root)


def pretrain_set(source) -> PretrainDataset:
    return PretrainDataset(
        source,
        decoder=Decoder(max_bytes=50_000),
        crop=RandomResizedCrop(16),
        perturbation=PerturbationDraw(),
        masking=RandomUnitMasking(grid_size=4, unit_size=1, ratio=0.5),
        seed=0,
    )


def reasons_of(source) -> dict[str, str]:
    """Name and reason of every broken image, read through the training set."""
    dataset, reasons = pretrain_set(source), {}
    for index in range(len(source)):
        sample = dataset[SampleKey(0, index)]
        assert sample.crop.shape == (3, 16, 16)
        for line in filter(None, sample.broken.split("\n")):
            reasons[from_line(line)] = line.split("\t")[1]
    return reasons


@pytest.mark.filterwarnings("error")
def test_every_kind_of_broken_file(collection):
    root, expected = collection
    source = FolderSource(root)
    reasons = reasons_of(source)
    assert reasons.keys() == expected.keys()
    assert len(expected) >= 26
    for name, reason in expected.items():
        assert re.match(reason, reasons[name].removeprefix("NotAFile: ")), (name, reasons[name])
    assert len(source) == len(expected) + len(ODD_BUT_GOOD) + 12 + 1


def test_names_in_a_list_that_are_not_files(collection):
    root, _ = collection
    names = ["good1.jpg", "missing.jpg", "folder.jpg", "x" * 300 + ".jpg", "null\0byte.jpg", "good1.jpg/below.jpg"]
    (root / "list.txt").write_text("\n".join(names))
    reasons = reasons_of(ManifestSource(root, manifest="list.txt"))
    assert {name: reasons[name].split(":")[0] for name in names[1:]} == {
        "missing.jpg": "FileNotFoundError",
        "folder.jpg": "NotAFile",
        names[3]: "OSError",
        names[4]: "ValueError",
        names[5]: "NotADirectoryError",
    }


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="there are no users but on Unix")
def test_a_file_without_permission(tmp_path: Path):
    (tmp_path / "x.jpg").write_bytes(JPEG)
    (tmp_path / "x.jpg").chmod(0)
    tmp_path.chmod(0o755)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)  # root may read anything
    try:
        with pytest.raises(BrokenImageError, match=r"PermissionError: Permission denied"):
            read_file(str(tmp_path / "x.jpg"))
    finally:
        if root:
            os.seteuid(0)


def test_odd_files_are_decoded_exactly(tmp_path: Path):
    expected = np.asarray(Image.open(BytesIO(JPEG)))
    for name in ("a jpeg.png", "text behind.jpg", "upper.JPG"):
        assert np.array_equal(Decoder().decode(ODD_BUT_GOOD[name]).permute(1, 2, 0).numpy(), expected)


def test_sizes_are_limited_before_reading(tmp_path: Path):
    (tmp_path / "x").write_bytes(b"12345")
    assert read_file(str(tmp_path / "x"), 5) == b"12345"
    with pytest.raises(BrokenImageError, match="TooLarge: 5 bytes, more than 4"):
        read_file(str(tmp_path / "x"), 4)


def test_a_file_that_disappears_meanwhile(tmp_path: Path):
    shutil.copytree(tmp_path, tmp_path / "set")
    for index in range(3):
        (tmp_path / "set" / f"{index}.jpg").write_bytes(JPEG)
    dataset = pretrain_set(FolderSource(tmp_path / "set"))
    (tmp_path / "set" / "1.jpg").unlink()
    assert dataset[SampleKey(0, 1)].broken.startswith("1.jpg\tFileNotFoundError")


def test_folders(tmp_path: Path):
    check_folder(tmp_path)
    (tmp_path / "x").write_text("")
    with pytest.raises(ValueError, match="is not a folder"):
        check_folder(tmp_path / "x")


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("my set.tar.gz", "mkdir -p images && tar --extract --file 'SET' --directory images"),
        ("my set.ZIP", "unzip 'SET' -d images"),
    ],
)
def test_an_archive_is_to_be_unpacked(tmp_path: Path, name, command):
    (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match="is not a folder") as caught:
        check_folder(tmp_path / name)
    assert str(caught.value).endswith(f"unpack it: {command.replace('SET', str(tmp_path / name))}")
