from pathlib import Path

from PIL import Image
from shard_files import write_shards

from conmim_lightning.data.decode import Decoder
from conmim_lightning.data.folder import FolderSource
from conmim_lightning.data.stream import StreamSource
from conmim_lightning.data.summary import summarize


def test_what_was_found(tmp_path: Path):
    for number in range(19):
        path = tmp_path / "ab"[number % 2] / f"{number}.{'png' if number % 3 else 'jpg'}"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (100 + number, 50)).save(path)
    (tmp_path / "b" / "x.jpg").write_bytes(b"no image")
    (tmp_path / "notes.txt").write_text("")
    told = summarize(FolderSource(tmp_path, labelled=True), Decoder())
    assert told.startswith(f"20 images from {tmp_path}, 2 classes\n")
    assert "of 20 looked at: PNG 12, JPEG 7; 1 broken, such as b/x.jpg: UnidentifiedImageError" in told
    assert "width 101, 109, 117; height 50, 50, 50" in told
    assert "1 files were passed over" in told


def test_of_a_large_collection_some_are_looked_at(tmp_path: Path):
    for number in range(50):
        Image.new("L", (8, 8)).save(tmp_path / f"{number:02d}.png")
    assert "of 10 looked at: PNG 10; 0 broken" in summarize(FolderSource(tmp_path), Decoder(), looked_at=10)


def test_a_stream_is_not_touched(tmp_path: Path):
    write_shards(tmp_path, 3)
    source = StreamSource("https://nowhere.invalid/x", shards="0.tar", samples_per_epoch=1000)
    assert summarize(source, Decoder()) == "1,000 images an epoch from https://nowhere.invalid/x"
