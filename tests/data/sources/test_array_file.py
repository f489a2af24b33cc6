import pickle
from pathlib import Path

import numpy as np
import pytest

from conmim_lightning.data.sources.array_file import ArrayFile, PackedStrings, load_or_none


def test_names_of_any_bytes_are_restored():
    strings = [b"a.jpg", b"", b"\xff\xfe\n\t.png", "ü/日本.jpg".encode()]
    names = PackedStrings.of(strings)
    assert [names[index] for index in range(len(names))] == strings
    for index in (-1, 4):
        with pytest.raises(IndexError, match=f"index {index}"):
            names[index]


def test_arrays_are_restored_from_a_file(tmp_path: Path):
    arrays = {"a": np.arange(5, dtype=np.int64), "b": np.zeros((0,), np.uint8), "c": np.ones((2, 3), np.float32)}
    ArrayFile({"k": [1, "x"]}, arrays).save(tmp_path / "sub" / "x.index")
    loaded = ArrayFile.load(tmp_path / "sub" / "x.index")
    assert loaded.header == {"k": [1, "x"]}
    assert all(
        np.array_equal(loaded[name], array) and loaded[name].dtype == array.dtype for name, array in arrays.items()
    )
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["x.index"]
    with pytest.raises(ValueError, match="read-only"):
        loaded["a"][0] = 1


def test_a_mapped_file_is_pickled_by_name(tmp_path: Path):
    original = ArrayFile({}, {"a": np.zeros(1_000_000)})
    original.save(tmp_path / "x")
    sent = pickle.dumps(ArrayFile.load(tmp_path / "x"))
    assert len(sent) < 1000
    assert np.array_equal(pickle.loads(sent)["a"], original["a"])


@pytest.mark.parametrize("damage", [lambda c: b"", lambda c: c[:-1], lambda c: b"x" + c, lambda c: c[:30]])
def test_a_damaged_file_is_not_an_index(tmp_path: Path, damage):
    ArrayFile({}, {"a": np.arange(9)}).save(tmp_path / "x")
    (tmp_path / "x").write_bytes(damage((tmp_path / "x").read_bytes()))
    assert load_or_none(tmp_path / "x") is None
    assert load_or_none(tmp_path / "missing") is None
