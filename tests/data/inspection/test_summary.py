from pathlib import Path

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
