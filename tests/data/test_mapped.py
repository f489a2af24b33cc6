import pickle
from pathlib import Path

import numpy as np
import pytest

from conmim_lightning.data.mapped import Arrays, Names, load_or_none


def test_names_of_any_bytes_come_back():
    given = [b"a.jpg", b"", b"\xff\xfe\n\t.png", "ü/日本.jpg".encode()]
    names = Names.of(given)
    assert [names[index] for index in range(len(names))] == given
    for index in (-1, 4):
        with pytest.raises(IndexError, match=f"number {index}; there are 4"):
            names[index]


def test_arrays_come_back_from_a_file(tmp_path: Path):
    arrays = {"a": np.arange(5, dtype=np.int64), "b": np.zeros((0,), np.uint8), "c": np.ones((2, 3), np.float32)}
    Arrays({"k": [1, "x"]}, arrays).save(tmp_path / "sub" / "x.index")
    found = Arrays.load(tmp_path / "sub" / "x.index")
    assert found.header == {"k": [1, "x"]}
    assert all(
        np.array_equal(found[name], array) and found[name].dtype == array.dtype for name, array in arrays.items()
    )
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["x.index"]
    with pytest.raises(ValueError, match="read-only"):
        found["a"][0] = 1


def test_a_mapped_file_travels_by_name(tmp_path: Path):
    given = Arrays({}, {"a": np.zeros(1_000_000)})
    given.save(tmp_path / "x")
    sent = pickle.dumps(Arrays.load(tmp_path / "x"))
    assert len(sent) < 1000
    assert np.array_equal(pickle.loads(sent)["a"], given["a"])


@pytest.mark.parametrize("damage", [lambda c: b"", lambda c: c[:-1], lambda c: b"x" + c, lambda c: c[:30]])
def test_a_damaged_file_is_no_index(tmp_path: Path, damage):
    Arrays({}, {"a": np.arange(9)}).save(tmp_path / "x")
    (tmp_path / "x").write_bytes(damage((tmp_path / "x").read_bytes()))
    assert load_or_none(tmp_path / "x") is None
    assert load_or_none(tmp_path / "missing") is None
