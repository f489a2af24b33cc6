from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from conmim_lightning.data.sources.manifest import ManifestSource


def write(root: Path, name: str, text: str) -> Path:
    (root / name).write_text(text)
    return root


def names(source) -> list[str]:
    return [source.name(index) for index in range(len(source))]


def labels(source) -> list[int]:
    return [source.label(index) for index in range(len(source))]


def test_the_official_list(tmp_path: Path):
    root = write(tmp_path, "train_map.txt", "n01/n01_1.JPEG 0\nn02/n02_7.JPEG 2\n\nn01/n01_2.JPEG 0\n")
    source = ManifestSource(root, manifest="train_map.txt")
    assert names(source) == ["n01/n01_1.JPEG", "n02/n02_7.JPEG", "n01/n01_2.JPEG"]
    assert labels(source) == [0, 2, 0]
    assert source.classes == ["0", "1", "2"]
    assert source.path(1) == tmp_path / "n02/n02_7.JPEG"


def test_paths_without_labels_may_have_spaces(tmp_path: Path):
    source = ManifestSource(write(tmp_path, "list.txt", "my image.jpg\nimage 2\nx.jpg"), manifest="list.txt")
    assert names(source) == ["my image.jpg", "image 2", "x.jpg"]
    assert not source.classes


ROWS = [("a 1.jpg", "dog"), ("b,2.jpg", "cat"), ("c.jpg", "dog")]


def table(root: Path, kind: str) -> str:
    if kind == "parquet":
        columns = dict(zip(("file", "kind"), map(list, zip(*ROWS, strict=True)), strict=True))
        pyarrow.parquet.write_table(pyarrow.table(columns | {"extra": [1, 2, 3]}), root / "t.parquet")
    elif kind == "csv":
        write(root, "t.csv", "extra,file,kind\n" + "".join(f'1,"{file}",{kind}\n' for file, kind in ROWS))
    else:
        write(root, "t.tsv", "file\tkind\n" + "".join(f"{file}\t{kind}\n" for file, kind in ROWS))
    return f"t.{kind}"


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_tables_with_chosen_columns(tmp_path: Path, kind):
    manifest = table(tmp_path, kind)
    source = ManifestSource(tmp_path, manifest=manifest, path_column="file", label_column="kind")
    assert names(source) == ["a 1.jpg", "b,2.jpg", "c.jpg"]
    assert (source.classes, labels(source)) == (["cat", "dog"], [1, 0, 1])
    assert not ManifestSource(tmp_path, manifest=manifest, path_column="file").classes
    with pytest.raises(ValueError, match=r"has no column \['path'\]; it has .*'file', 'kind'"):
        ManifestSource(tmp_path, manifest=manifest)
    with pytest.raises(ValueError, match=r"labels \['dog'\] that are not among \['cat'\]"):
        ManifestSource(tmp_path, manifest=manifest, path_column="file", label_column="kind", classes=["cat"])


def test_labels_as_numbers_in_a_table(tmp_path: Path):
    write(tmp_path, "t.csv", "path,label\na.jpg,1\nb.jpg,0\n")
    source = ManifestSource(tmp_path, manifest="t.csv", label_column="label", classes=["no", "yes"])
    assert (labels(source), source.classes) == ([1, 0], ["no", "yes"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.txt", "", "lists no image"),
        ("x.csv", "path\n", "lists no image"),
        ("x.csv", "", r"has no column \['path'\]; it has \[\]"),
        ("x.csv", "path,label\na.jpg,1\n,2\n", "no path in row 2"),
        ("x.csv", "path\n" + "x" * 200_000, "line .*field larger than field limit"),
        ("x.txt", "a.jpg 1\nb.jpg\nc.jpg 2\n", "has labels, but none in line 2"),
        ("x.parquet", "no parquet", "is not a readable Parquet file"),
        ("x.txt", "a.jpg 1000\n", "label 1000; allowed are 0 to 999"),
    ],
)
def test_bad_lists(tmp_path: Path, name, text, message):
    with pytest.raises(ValueError, match=message):
        ManifestSource(write(tmp_path, name, text), manifest=name, classes=[str(n) for n in range(1000)])


def test_missing(tmp_path: Path):
    with pytest.raises(ValueError, match=r"nowhere.txt' does not exist"):
        ManifestSource(tmp_path, manifest="nowhere.txt")
    with pytest.raises(ValueError, match="nowhere' does not exist"):
        ManifestSource(tmp_path / "nowhere", manifest="x")


def test_numbers_that_are_not_classes(tmp_path: Path):
    """Such as times; they must not become a billion names."""
    with pytest.raises(ValueError, match="label 1700000001; labels from 1000000 on are rejected as a mistake"):
        ManifestSource(write(tmp_path, "x.txt", "a.jpg 1700000000\nb.jpg 1700000001\n"), manifest="x.txt")


def test_a_table_with_an_empty_label(tmp_path: Path):
    pyarrow.parquet.write_table(pyarrow.table({"path": ["a", "b"], "label": ["x", None]}), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="no label in row 2"):
        ManifestSource(tmp_path, manifest="t.parquet", label_column="label")
