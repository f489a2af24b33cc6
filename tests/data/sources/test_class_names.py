import pytest

from conmim_lightning.data.sources.class_names import read_class_names


def test_a_name_per_line(tmp_path):
    (tmp_path / "classes.txt").write_text("wall\n\n sky \n")
    assert read_class_names(tmp_path / "classes.txt") == ["wall", "sky"]


def test_the_last_column_of_a_table_with_distinct_names(tmp_path):
    (tmp_path / "info.txt").write_text("Idx\tName\n1\tdoor, gate\n2\tsky\n3\tdoor\n")
    assert read_class_names(tmp_path / "info.txt") == ["door 1", "sky", "door 3"]


def test_an_unreadable_file(tmp_path):
    (tmp_path / "classes.txt").write_bytes(b"\xff\xfe")
    for name in ("classes.txt", "none.txt"):
        with pytest.raises(ValueError, match="cannot be read"):
            read_class_names(tmp_path / name)
