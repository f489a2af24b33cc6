from pathlib import Path

import pytest
from image_tree import names, touch

from conmim_lightning.data.sources.folder import FolderSource


def test_excluded_images_are_left_out(tmp_path: Path):
    source = FolderSource(touch(tmp_path, "a/1.jpg", "a/2.jpg", "b/3.jpg"), labelled=True)
    rest = source.without({"a/2.jpg", "not there.jpg"})
    assert names(rest) == ["a/1.jpg", "b/3.jpg"]
    assert [rest.label(index) for index in range(2)] == [0, 1]
    with pytest.raises(ValueError, match=r"no image of .* remains after the exclusion of 3 names"):
        source.without({"a/1.jpg", "a/2.jpg", "b/3.jpg"})


def test_excluded_names_without_an_image_are_noted(tmp_path: Path):
    rest = FolderSource(touch(tmp_path, "1.jpg", "2.jpg")).without({"1.jpg", "x.jpg", "y.jpg"})
    assert rest.notes == ["1 images are excluded", "2 of 3 names to exclude do not belong to any image"]
