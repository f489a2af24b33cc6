"""Damaged files from a seed: each is read, or rejected with one message; no other exception, no endless reading."""

import io
import random
import tarfile
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from sklearn.datasets import load_sample_image

from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.images.files import BrokenImageError
from conmim_lightning.data.images.formats import FORMATS
from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.class_values import ClassValues
from conmim_lightning.data.sources.shards.indexed import ShardSource

PICTURE = Image.fromarray(load_sample_image("flower.jpg")[100:132, 100:148])
ALL = [name for name in FORMATS if name != "heic"]


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Flip bits, replace, remove and insert bytes, or cut the end; one to four times."""
    result = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(max(1, len(result)))
        kind = rng.randrange(5)
        if kind == 0 and result:
            result[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            result[place : place + rng.randint(1, 8)] = rng.randbytes(rng.randint(1, 8))
        elif kind == 2:
            del result[place : place + rng.randint(1, 40)]
        elif kind == 3:
            result[place:place] = rng.randbytes(rng.randint(1, 40))
        else:
            del result[place:]
    return bytes(result)


def outcome(expected, call, *arguments) -> tuple[Any, str]:
    """The result of a call and no message, or None and the message of an expected error."""
    try:
        return call(*arguments), ""
    except expected as error:
        return None, str(error)


def encoded() -> dict[str, bytes]:
    """One picture in every format."""
    contents = {}
    for name, options in (
        *(("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("WEBP", {}), ("GIF", {}), ("BMP", {})),
        *(("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("AVIF", {}), ("JPEG2000", {}), ("PPM", {})),
        ("TGA", {}),
    ):
        buffer = io.BytesIO()
        PICTURE.save(buffer, name, **options)
        contents[f"{name} {options}"] = buffer.getvalue()
    deep = np.asarray(PICTURE.convert("I;16"))
    for name, save in (("npy", lambda file: np.save(file, deep)), ("deep", lambda file: _tiff(file, deep))):
        buffer = io.BytesIO()
        save(buffer)
        contents[name] = buffer.getvalue()
    return contents


def _tiff(file: io.BytesIO, values: np.ndarray) -> None:
    tifffile.imwrite(file, np.stack([values] * 6), photometric="minisblack")


@pytest.mark.slow
def test_5000_images():
    rng = random.Random(0)
    contents = list(encoded().values())
    decoders = [
        Decoder(formats=ALL, max_pixels=100_000, value_range=value_range, channels=channels)
        for value_range in (None, (0, 4095))
        for channels in (3, 6)
    ]
    read = 0
    for number in range(5000):
        content = mutated(contents[number % len(contents)], rng)
        decoder = decoders[number // len(contents) % len(decoders)]
        opened, message = outcome(BrokenImageError, decoder.open, content)
        pixels, later = outcome(BrokenImageError, opened.whole) if opened else (None, message)
        assert (pixels is None) == bool(later)
        if pixels is None:
            continue
        read, image = read + 1, opened
        assert pixels.shape == (decoder.channels, image.height, image.width)
        assert image.region((0, 0, image.width, image.height), 16).shape == (decoder.channels, 16, 16)
    assert 500 < read < 4500


def test_500_class_maps(tmp_path):
    rng, values = random.Random(1), np.random.default_rng(0).integers(0, 3, (20, 30), dtype=np.uint8)
    sources = {}
    for suffix, options in ((".png", {}), (".bmp", {}), (".tif", {}), (".gif", {})):
        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, {".tif": "TIFF"}.get(suffix, suffix[1:].upper()), **options)
        sources[suffix] = buffer.getvalue()
    buffer = io.BytesIO()
    np.save(buffer, values)
    sources[".npy"] = buffer.getvalue()
    classes, read = ClassValues(255), 0
    for number in range(500):
        suffix = list(sources)[number % len(sources)]
        path = tmp_path / f"map{suffix}"
        path.write_bytes(mutated(sources[suffix], rng))
        label, message = outcome((BrokenImageError, ValueError), classes.classes, path)
        if label is None:
            assert "map" in message
            continue
        read += 1
        assert label.ndim == 2
        assert set(np.unique(label)) <= {*range(-1, 255)}
    assert 20 < read < 480


def test_500_shards(tmp_path):
    rng, buffer = random.Random(2), io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number in range(6):
            content = bytes([number]) * 700
            info = tarfile.TarInfo(f"a{number}.{'cls' if number == 3 else 'jpg'}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    path, read = tmp_path / "set" / "x.tar", 0
    path.parent.mkdir()
    for _ in range(500):
        path.write_bytes(mutated(buffer.getvalue(), rng))
        source, message = outcome(ValueError, ShardSource, path.parent)
        if source is None:
            assert "x.tar" in message
            continue
        read += 1
        for index in range(len(source)):
            content, message = outcome(BrokenImageError, source.read, SampleKey(0, index))
            size = int(source.index["sizes"][index])
            assert message if content is None else len(content) == size > 0
    assert 100 < read < 500
