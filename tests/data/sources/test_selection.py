import pytest
from image_tree import names, touch

from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.sources.selection import PassedOver, Selection
from conmim_lightning.data.sources.splits import FolderSplits

SYSTEM = (
    "._a.jpg",
    ".x.jpg",
    "__MACOSX/a.jpg",
    ".thumbnails/a.png",
    ".ipynb_checkpoints/a.png",
    "@eaDir/a.jpg",
    "Thumbs.db",
)


def test_hidden_and_system_files_are_passed_over_and_counted(tmp_path):
    root = touch(tmp_path, "a.jpg", "b/c.jpg", *SYSTEM)
    source = FolderSource(root)
    assert names(source) == ["a.jpg", "b/c.jpg"]
    assert len(source.notes) == 1
    assert source.notes[0].startswith("hidden or system files and folders passed over: 7, such as")
    everything = FolderSource(root, include_hidden=True)
    assert len(everything) == 8
    assert everything.notes == ["files passed over: 1 .db"]


def test_hidden_folders_are_no_classes(tmp_path):
    root = touch(tmp_path, *(f"train/{name}/1.jpg" for name in ("cat", "dog", ".cache", "@eaDir", "__MACOSX")))
    assert FolderSplits().count_classes(str(root), "train") == 2
    assert FolderSplits()(str(root), "train", None).classes == ["cat", "dog"]
    assert FolderSplits(include_hidden=True).count_classes(str(root), "train") == 5


def test_the_suffixes_follow_the_formats(tmp_path):
    root = touch(tmp_path, *(f"a.{suffix}" for suffix in ("jpg", "JFIF", "avif", "jp2", "pgm", "tga", "npy", "txt")))
    assert names(FolderSource(root)) == ["a.JFIF", "a.avif", "a.jp2", "a.jpg", "a.pgm"]
    note = FolderSource(root).notes[0]
    assert "1 .tga" in note
    assert note.endswith("(data.decoder.formats chooses the formats)")
    assert names(FolderSource(root, formats=["tga", "npy"])) == ["a.npy", "a.tga"]


def test_a_stored_index_belongs_to_its_selection(tmp_path):
    root = touch(tmp_path / "set", "a.jpg", ".b.jpg", "c.tga")
    index_dir = str(tmp_path / "index")
    for count, choice in ((1, {}), (2, {"include_hidden": True}), (1, {"formats": ["tga"]}), (1, {})):
        assert len(FolderSource(root, index_dir=index_dir, **choice)) == count


def test_paths():
    selection = Selection()
    assert selection.leaves_hidden_path("a/__MACOSX/b.jpg")
    assert selection.leaves_hidden_path("a/.b.jpg")
    assert not selection.leaves_hidden_path("a.b/c.d.jpg")
    assert not Selection(include_hidden=True).leaves_hidden_path(".a/b.jpg")
    with pytest.raises(ValueError, match="got \\['pcx'\\]"):
        Selection(["pcx"])


def test_many_suffixes_are_summed_up():
    count = PassedOver()
    for number in range(7):
        count.add_other(f"x.s{number}")
    assert count.notes()[0].endswith(", 2 other suffixes")


def test_a_folder_of_archives_names_the_command(tmp_path):
    root = touch(tmp_path, "sub/all images.zip")
    with pytest.raises(ValueError, match=r"files passed over: 1 \.zip; .*unzip '.*/sub/all images\.zip' -d images"):
        FolderSource(root)
