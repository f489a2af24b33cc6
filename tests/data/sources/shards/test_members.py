import re

import pytest
from shard_files import jpeg, write_shard

from conmim_lightning.data.sources.selection import Selection
from conmim_lightning.data.sources.shards.indexed import ShardSource
from conmim_lightning.data.sources.shards.members import MemberChoice, image_keys, is_hostile, sample_of
from conmim_lightning.data.sources.shards.stream import StreamSource

MEMBERS = {
    "IMG_2020.01.05.jpg": jpeg(1),
    "IMG_2020.01.06.jpg": jpeg(2),
    "photo.v2.jpg": jpeg(3),
    "0001.input.jpg": jpeg(4),
    "0001.target.jpg": jpeg(5),
    "0001.cls": b"3",
    "1.jpg": jpeg(6),
    "1.png": jpeg(7),
    "__MACOSX/._1.jpg": b"x",
    "a/.hidden.jpg": b"x",
    "alone.json": b"{}",
}
IMAGES = ["IMG_2020.01.05.jpg", "IMG_2020.01.06.jpg", "photo.v2.jpg", "0001.input.jpg", "0001.target.jpg", "1.jpg"]
SENTENCES = (
    r"1 further images of a sample are left out \(data\.source\.image_key chooses\), the first is '1\.png'",
    "1 samples have no image, the first is 'alone'",
    "hidden or system files and folders passed over: 2, such as '__MACOSX",
)


@pytest.fixture
def root(tmp_path):
    write_shard(tmp_path / "a.tar", MEMBERS)
    return tmp_path


def streamed(root, **arguments) -> tuple[list[str], list[tuple[str, str]]]:
    source = StreamSource(
        str(root), shards="a.tar", samples_per_epoch=6, lanes=1, shuffle_buffer=1, retries=0, **arguments
    )
    names = sorted({name for name, _ in source.reader.images(source.urls[0])})
    return names, source.pop_faults()


def test_names_with_dots_are_images_of_their_own(root):
    source = ShardSource(root)
    assert [source.name(index) for index in range(len(source))] == [f"a.tar/{name}" for name in IMAGES]
    assert source.label(3) == source.label(4) == 3, "the label of WebDataset's sample"
    for sentence in SENTENCES:
        assert any(re.search(sentence, note) for note in source.notes), source.notes


def test_a_stream_reads_the_same_images_and_counts_the_rest(root):
    names, faults = streamed(root)
    assert names == sorted(f"a.tar/{name}" for name in IMAGES)
    assert len(faults) == 1
    assert faults[0][0] == "a.tar"
    assert faults[0][1].startswith("LeftOut: ")
    for sentence in SENTENCES[:1] + SENTENCES[2:]:
        assert re.search(sentence, faults[0][1])


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("input.jpg", ["0001.input.jpg"]),
        ("png", ["1.png"]),
        (["png", "input.jpg"], ["0001.input.jpg", "1.png"]),
    ],
)
def test_a_key_chooses(root, key, expected):
    source = ShardSource(root, image_key=key)
    assert [source.name(index) for index in range(len(source))] == [f"a.tar/{name}" for name in expected]
    assert any("do not end in data.source.image_key" in note for note in source.notes)
    assert streamed(root, image_key=key)[0] == sorted(f"a.tar/{name}" for name in expected)


def test_a_stored_index_belongs_to_its_choice(root, tmp_path):
    index_dir = str(tmp_path / "index")
    for count, choice in ((6, {}), (1, {"image_key": "png"}), (8, {"include_hidden": True}), (6, {})):
        assert len(ShardSource(root, index_dir=index_dir, **choice)) == count


def test_the_same_members_in_every_attempt():
    choice = MemberChoice(Selection())
    for _ in range(2):
        members = choice.begin()
        assert [name for name in MEMBERS if members.takes(name)] == IMAGES


@pytest.mark.parametrize(
    ("name", "key", "extension"),
    [("a/b.c/1.Seg.PNG", "a/b.c/1", "seg.png"), ("1.jpg", "1", "jpg"), ("x", "x", ""), (".hidden", ".hidden", "")],
)
def test_samples_of_webdataset(name, key, extension):
    assert sample_of(name) == (key, extension)


def test_hostile_names():
    assert all(map(is_hostile, ("/x", "../x", "a/../../x", "a/..")))
    assert not any(map(is_hostile, ("x", "./x", "a..b/x", "a/b")))


def test_keys():
    assert image_keys(None) == ()
    assert image_keys("jpg") == ("jpg",)
    assert image_keys(["a", "b"]) == ("a", "b")


@pytest.mark.parametrize("order", [1, -1])
def test_masks_beside_an_image_are_no_images(tmp_path, order):
    """WebDataset's samples: also where the mask precedes the image, in both readers."""
    members = {}
    for number in range(3):
        names = {f"{number}.jpg": jpeg(number), f"{number}.seg.png": jpeg(9), f"{number}.depth.png": jpeg(8)}
        members |= dict(list(names.items())[::order]) | {f"{number}.cls": str(number).encode()}
    write_shard(tmp_path / "a.tar", members)
    source = ShardSource(tmp_path, labelled=True)
    expected = [f"a.tar/{number}.jpg" for number in range(3)]
    assert [source.name(index) for index in range(len(source))] == expected
    assert [source.label(index) for index in range(3)] == [0, 1, 2]
    assert any("6 further images of a sample are left out" in note for note in source.notes)
    names, faults = streamed(tmp_path)
    assert names == expected
    assert "6 further images of a sample" in faults[0][1]
    assert streamed(tmp_path, image_key="seg.png")[0] == [f"a.tar/{number}.seg.png" for number in range(3)]
