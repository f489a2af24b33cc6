import io

import numpy as np
import pytest
import torch
from PIL import Image
from shard_files import write_shards
from sklearn.datasets import load_sample_image

from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.inspection.survey import AnnotationRecord, faintness, perceptual_hash, survey
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.sources.shards.stream import StreamSource


def test_properties_of_every_image(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    Image.new("RGB", (30, 20)).save(tmp_path / "b.png")
    Image.new("L", (50, 40)).save(tmp_path / "c.jpg")
    (tmp_path / "d.jpg").write_bytes(b"nothing")

    def check(source, index, height, width):
        return (
            AnnotationRecord("bad") if (index, height, width) == (2, 40, 50) else AnnotationRecord("", np.eye(2)[index])
        )

    images = survey(FolderSource(tmp_path), Decoder(), num_workers=0, with_hashes=False, annotation_check=check)
    assert [images.format_names[position] for position in images.formats] == ["PNG", "PNG", "JPEG", ""]
    assert images.widths.tolist() == [30, 30, 50, 0]
    assert images.heights.tolist() == [20, 20, 40, 0]
    assert images.sizes.tolist()[:3] == [(tmp_path / name).stat().st_size for name in ("a.png", "b.png", "c.jpg")]
    assert np.array_equal(images.digests[0], images.digests[1])
    assert not np.array_equal(images.digests[0], images.digests[2])
    assert list(images.broken) == [3]
    assert images.annotations == {2: "bad"}
    assert images.class_counts.tolist() == [1, 1]


def test_hashes_of_similar_images_differ_in_few_bits():
    photograph = Image.fromarray(load_sample_image("china.jpg"))
    small = photograph.resize((200, 133))
    other = Image.fromarray(load_sample_image("flower.jpg"))
    one, same, different = (perceptual_hash(np.asarray(image)) for image in (photograph, small, other))
    assert (one ^ same).bit_count() <= 3
    assert (one ^ different).bit_count() > 15


def test_streams_have_no_indices(tmp_path):
    write_shards(tmp_path, 3)
    source = StreamSource(str(tmp_path), shards="*.tar", samples_per_epoch=3)
    with pytest.raises(ValueError, match="is a stream; inspect its shards as local files"):
        survey(source, Decoder(), num_workers=0, with_hashes=False)


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
def test_twelve_bits_that_are_read_as_sixteen_are_nearly_black(name):
    with io.BytesIO() as buffer:
        grey = np.asarray(Image.fromarray(load_sample_image(name)).convert("L")).astype(np.uint16)
        Image.fromarray(grey * 16).save(buffer, "PNG")
        content = buffer.getvalue()
    assert faintness(Decoder().decode(content)).startswith("nearly black: its largest value is 1")
    assert faintness(Decoder(value_range=[0, 4095]).decode(content)) == ""


def test_faintness_of_large_images():
    assert faintness(torch.full((3, 3000, 5000), 128, dtype=torch.uint8)).startswith("nearly constant")
    stripes = torch.arange(5000).repeat(3, 3000, 1) % 256
    assert faintness(stripes.to(torch.uint8)) == ""
