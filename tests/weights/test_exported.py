import pytest

from conmim_lightning.weights.exported import check_empty


def test_an_output_that_holds_something_is_kept(tmp_path):
    check_empty(tmp_path / "new")
    check_empty(tmp_path)
    (tmp_path / "file").write_text("kept")
    for output in (tmp_path, tmp_path / "file"):
        with pytest.raises(ValueError, match="exists and is not an empty folder"):
            check_empty(output)
    assert (tmp_path / "file").read_text() == "kept"
