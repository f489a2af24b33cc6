"""Tar shards for tests."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

Members = dict[str, bytes]


def jpeg(number: int, size: int = 20) -> bytes:
    """A small JPEG that differs from the others."""
    with io.BytesIO() as buffer:
        pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((size, size)).save(buffer, "JPEG")
        return buffer.getvalue()


def samples(first: int, count: int, **others: bytes) -> Members:
    """WebDataset's layout: an image and other members per sample."""
    members: Members = {}
    for number in range(first, first + count):
        members[f"{number:06d}.jpg"] = jpeg(number)
        members |= {f"{number:06d}.{extension}": content for extension, content in others.items()}
    return members


def write_shard(path: Path, members: Members) -> Path:
    """A plain tar file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def write_shards(root: Path, *counts: int) -> list[Path]:
    """Shards 00000.tar, ... with the given numbers of images, numbered consecutively."""
    firsts = [sum(counts[:number]) for number in range(len(counts))]
    return [
        write_shard(root / f"{number:05d}.tar", samples(first, count, txt=b"a caption"))
        for number, (first, count) in enumerate(zip(firsts, counts, strict=True))
    ]
