from pathlib import Path

import pytest
from image_tree import names, touch

from conmim_lightning.data.sources.paths import check_images, open_images


@pytest.fixture
def root(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/2.png", "b/3.jpg", "b/deep/4.jpg", "notes.txt")
    (tmp_path / "list.txt").write_text("a/1.jpg\nb/3.jpg\n")
    return tmp_path


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ("", ["a/1.jpg", "a/2.png", "b/3.jpg", "b/deep/4.jpg"]),
        ("a/1.jpg", ["1.jpg"]),
        ("a/*", ["1.jpg", "2.png"]),
        ("b/**/*.jpg", ["3.jpg", "deep/4.jpg"]),
        (["a/1.jpg", "b/3.jpg"], ["a/1.jpg", "b/3.jpg"]),
        (["a/*.png", "b/*"], ["a/2.png", "b/3.jpg"]),
        ("list.txt", ["a/1.jpg", "b/3.jpg"]),
    ],
)
@pytest.mark.parametrize("relative", [False, True])
def test_every_way_to_name_images(root, monkeypatch, images, expected, relative):
    monkeypatch.chdir(root)
    prefix = "" if relative else f"{root}/"
    given = [prefix + name for name in images] if isinstance(images, list) else (prefix + images) or "."
    check_images(given)
    source = open_images(given)
    assert names(source) == expected
    assert all(Path(source.path(index)).exists() for index in range(len(source)))


def test_mixed_paths(root, monkeypatch):
    monkeypatch.chdir(root)
    assert len(open_images(["a/1.jpg", str(root / "b" / "3.jpg")])) == 2


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("none", "none' does not exist"),
        ("none/*.jpg", "no image matches 'none/"),
        (["a"], "'a' is a folder; give one folder alone"),
        ([], "no image matches"),
    ],
)
def test_mistakes(root, monkeypatch, images, message):
    monkeypatch.chdir(root)
    with pytest.raises(ValueError, match=message):
        open_images(images)


def test_a_missing_file_is_noticed_early(root):
    check_images(str(root / "*.jpg"))
    with pytest.raises(ValueError, match="does not exist"):
        check_images([str(root / "a" / "1.jpg"), str(root / "none.jpg")])


def test_names_stay_below_the_root(root, monkeypatch):
    """Predictions are named like the images: they must never lead to the images themselves."""
    (root / "list.txt").write_text(f"{root}/a/1.jpg\n{root}/b/3.jpg\n")
    (root / "labelled.txt").write_text("b/../a/1.jpg 0\nb/3.jpg 1\n")
    monkeypatch.chdir(root / "a")
    for images in (str(root / "list.txt"), str(root / "labelled.txt"), ["../a/1.jpg", "../b/3.jpg"]):
        source = open_images(images)
        assert names(source) == ["a/1.jpg", "b/3.jpg"]
        assert not source.classes
