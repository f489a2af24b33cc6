import pytest
from image_tree import touch

from conmim_lightning.data.sources.split_paths import existing_splits, for_split, split_hint


def test_templates():
    assert for_split("images/{split}2017", "val") == "images/val2017"
    for template in ("images/{part}", "{", "images/{split}}"):
        with pytest.raises(ValueError, match="no other braces"):
            for_split(template, "val")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{split}", ["images", "lists"]),
        ("images/{split}", ["train2017", "val2017"]),
        ("images/{split}2017", ["train", "val"]),
        ("images/{split}/deep", ["train2017"]),
        ("lists/instances_{split}.json", ["train"]),
        ("lists/{split}.txt", []),
        ("nowhere/{split}", []),
        ("fixed", []),
    ],
)
def test_the_splits_that_exist(tmp_path, template, expected):
    names = ("train2017/deep/a.jpg", "val2017/a.jpg", ".hidden/a.jpg", "readme.md")
    root = touch(tmp_path, *(f"images/{name}" for name in names), "lists/instances_train.json", "lists/instances_.json")
    assert existing_splits(root, template) == expected


def test_usual_names_come_first(tmp_path):
    root = touch(tmp_path, "train/a.jpg", "Valid/a.jpg", "other/a.jpg")
    assert split_hint(root, "{split}").startswith("; there are Valid, train, choose one with data.val=")
    assert "there are other," in split_hint(touch(tmp_path / "x", "other/a.jpg"), "{split}")
    assert split_hint(tmp_path / "other", "{split}") == ""
