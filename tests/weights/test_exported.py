import pytest

from conmim_lightning.weights.exported import check_empty, sha256_of


def test_an_output_that_holds_something_is_kept(tmp_path):
    check_empty(tmp_path / "new")
    check_empty(tmp_path)
    (tmp_path / "file").write_text("kept")
    for output in (tmp_path, tmp_path / "file"):
        with pytest.raises(ValueError, match="exists and is not an empty folder"):
            check_empty(output)
    assert (tmp_path / "file").read_text() == "kept"


def test_the_digest_is_that_of_the_file(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
