from pathlib import Path

import numpy as np
from PIL import Image
from shard_files import write_shards

from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.inspection.summary import summarize
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.sources.shards.stream import StreamSource


def test_counts_formats_sizes_and_broken_images(tmp_path: Path):
    for number in range(19):
        path = tmp_path / "ab"[number % 2] / f"{number}.{'png' if number % 3 else 'jpg'}"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (100 + number, 50)).save(path)
    (tmp_path / "b" / "x.jpg").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("")
    text = summarize(FolderSource(tmp_path, labelled=True), Decoder())
    assert text.startswith(f"20 images from {tmp_path}, 2 classes\n")
    assert "sample of 20: PNG 12, JPEG 7; 1 broken, such as b/x.jpg: UnidentifiedImageError" in text
    assert "width 101, 109, 117; height 50, 50, 50" in text
    assert "files passed over: 1 .txt" in text


def test_a_large_collection_is_sampled(tmp_path: Path):
    for number in range(50):
        Image.new("L", (8, 8)).save(tmp_path / f"{number:02d}.png")
    assert "sample of 10: PNG 10; 0 broken" in summarize(FolderSource(tmp_path), Decoder(), sample_size=10)


def test_a_stream_is_not_read(tmp_path: Path):
    write_shards(tmp_path, 3)
    source = StreamSource("https://nowhere.invalid/x", shards="0.tar", samples_per_epoch=1000)
    assert summarize(source, Decoder()) == "1,000 images per epoch from https://nowhere.invalid/x"


def test_images_of_little_contrast_are_told(tmp_path: Path):
    """Twelve bits that are read as sixteen."""
    for number in range(40):
        values = np.random.default_rng(number).integers(0, 64, (8, 8), dtype=np.uint16)
        Image.fromarray(values).save(tmp_path / f"{number:02d}.png")
    text = summarize(FolderSource(tmp_path), Decoder())
    assert "warning: 20 of 20 decoded images are nearly constant or black, such as 00.png; " in text
    assert "data.decoder.value_range" in text
    assert "warning" not in summarize(FolderSource(tmp_path), Decoder(value_range=[0, 63]))
