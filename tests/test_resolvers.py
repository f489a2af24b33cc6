from pathlib import Path

import pytest
from omegaconf import OmegaConf

from conmim_lightning.resolvers import (
    count_categories,
    count_classes,
    divide,
    evaluation_resize,
    last_block,
    names_file,
    quarter_blocks,
    register_resolvers,
    segmentation_blocks,
)


def test_classes_are_counted(tmp_path: Path):
    for name in ("a", "b", ".hidden"):
        (tmp_path / "train" / name).mkdir(parents=True)
    (tmp_path / "train" / "note.txt").write_text("")
    assert count_classes(str(tmp_path), "train") == 2
    (tmp_path / "val" / "a").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds 1 class folders; at least 2"):
        count_classes(str(tmp_path), "val")
    with pytest.raises(ValueError, match="does not exist"):
        count_classes(str(tmp_path), "test")


@pytest.mark.parametrize(("size", "resized"), [(224, 256), (256, 292), (383, 437), (384, 384), (512, 512)])
def test_evaluation_sizes_are_the_official_ones(size, resized):
    assert evaluation_resize(size) == resized


def test_what_does_not_divide():
    with pytest.raises(ValueError, match="size: 225 is not divisible by 16"):
        divide(225, 16, "size")


def test_what_is_required_says_so():
    register_resolvers()
    cfg = OmegaConf.create({"weights": "${required:'give a place'}"})
    with pytest.raises(Exception, match="missing; give a place"):
        _ = cfg.weights


def test_blocks_are_those_of_the_recipes():
    assert segmentation_blocks(12) == [3, 5, 7, 11]
    assert segmentation_blocks(24) == [7, 11, 15, 23]
    assert segmentation_blocks(4) == [0, 1, 2, 3]
    assert quarter_blocks(12) == [2, 5, 8, 11]
    assert quarter_blocks(24) == [5, 11, 17, 23]
    assert last_block(12) == [11]


def test_categories_are_counted(tmp_path: Path):
    (tmp_path / "a.json").write_text('{"categories": [{}, {}, {}]}')
    assert count_categories(str(tmp_path), "{part}.json", "a") == 3
    with pytest.raises(ValueError, match=r"none\.json' cannot be read as COCO JSON"):
        count_categories(str(tmp_path), "none.json", "a")
    assert names_file(str(tmp_path), "a.json") == "a.json"
    assert names_file(str(tmp_path), "b.json") is None
