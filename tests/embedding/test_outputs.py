from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from safetensors.numpy import load_file

from conmim_lightning.embedding.outputs import check_output, write_output
from conmim_lightning.embedding.store import Chunk

RNG = np.random.default_rng(0)
SHAPES = {"last1_mean": (4,), "patches": (2, 2, 3)}
NAMES = [[b"a.jpg", b"b\tc.jpg"], [], [b"d\xff.jpg"]]


def chunks(dtype=np.float32) -> list[Chunk]:
    return [
        Chunk(
            {name: RNG.normal(size=(len(names), *shape)).astype(dtype) for name, shape in SHAPES.items()},
            np.arange(len(names)),
            names,
            [b"e.jpg\tbroken"] if not names else [],
        )
        for names in NAMES
    ]


def reader(listed: list[Chunk]):
    """A function that reads chunks, and counts nothing that was not asked for."""
    return lambda features: [
        chunk._replace(features={name: chunk.features[name] for name in features}) for chunk in listed
    ]


def joined(listed: list[Chunk], name: str) -> np.ndarray:
    return np.concatenate([chunk.features[name] for chunk in listed])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_safetensors(tmp_path: Path, dtype):
    listed = chunks(dtype)
    written = write_output(
        tmp_path / "x.safetensors", reader(listed), SHAPES, half=dtype is np.float16, classes=["cat", "dog"]
    )
    stored = load_file(tmp_path / "x.safetensors")
    assert {name: values.dtype for name, values in stored.items()} == dict.fromkeys(SHAPES, np.dtype(dtype))
    assert all(np.array_equal(values, joined(listed, name)) for name, values in stored.items())
    assert [path.name for path in written] == ["x.safetensors", "x.tsv", "x.broken.tsv"]
    lines = (tmp_path / "x.tsv").read_bytes().decode("utf-8", "surrogateescape").split("\n")
    assert lines == ["name\tlabel\tclass", "a.jpg\t0\tcat", "b\\tc.jpg\t1\tdog", "d\udcff.jpg\t0\tcat", ""]
    assert (tmp_path / "x.broken.tsv").read_text() == "e.jpg\tbroken\n"


def test_npy(tmp_path: Path):
    listed = [chunk._replace(features={"patches": chunk.features["patches"]}, broken=[]) for chunk in chunks()]
    written = write_output(tmp_path / "x.npy", reader(listed), {"patches": SHAPES["patches"]})
    assert np.array_equal(np.load(tmp_path / "x.npy"), joined(listed, "patches"))
    assert [path.name for path in written] == ["x.npy", "x.tsv"]
    assert (tmp_path / "x.tsv").read_bytes().split(b"\n")[:2] == [b"name", b"a.jpg"]


def test_parquet(tmp_path: Path):
    listed = chunks()
    write_output(tmp_path / "x.parquet", reader(listed), SHAPES, classes=["cat", "dog"])
    table = parquet.read_table(tmp_path / "x.parquet")
    assert table.column_names == ["name", "label", "class", "last1_mean", "patches"]
    assert table["name"].to_pylist() == ["a.jpg", "b\tc.jpg", "d\\udcff.jpg"]
    assert table["class"].to_pylist() == ["cat", "dog", "cat"]
    for name in SHAPES:
        assert np.array_equal(np.asarray(table[name].to_pylist(), np.float32), joined(listed, name))
    assert parquet.ParquetFile(tmp_path / "x.parquet").num_row_groups == 2


def test_no_readable_image(tmp_path: Path):
    listed = [chunks()[1]]
    write_output(tmp_path / "x.parquet", reader(listed), SHAPES)
    assert parquet.read_table(tmp_path / "x.parquet").num_rows == 0
    write_output(tmp_path / "y.safetensors", reader(listed), SHAPES)
    assert load_file(tmp_path / "y.safetensors")["patches"].shape == (0, 2, 2, 3)


def test_what_an_output_cannot_hold(tmp_path: Path):
    with pytest.raises(ValueError, match=r"x\.csv' must end in \.parquet, \.npy, \.safetensors"):
        check_output(tmp_path / "x.csv", ["a"])
    with pytest.raises(ValueError, match=r"\.npy holds one feature, got a, b"):
        check_output(tmp_path / "x.npy", ["a", "b"])
    (tmp_path / "x.npy").touch()
    with pytest.raises(ValueError, match="exists; remove it"):
        check_output(tmp_path / "x.npy", ["a"])


def test_without_pyarrow(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"pip install 'conmim-lightning\[parquet\]'"):
        check_output(tmp_path / "x.parquet", ["a"])
