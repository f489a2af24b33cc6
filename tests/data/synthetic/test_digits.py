from pathlib import Path

from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.synthetic.digits import write_digits


def test_digits_are_a_labelled_tree(tmp_path: Path):
    for _ in range(2):
        write_digits(tmp_path / "digits", size=16)
    train, val = (FolderSource(tmp_path / "digits" / split, labelled=True) for split in ("train", "val"))
    assert len(train) + len(val) == 1797
    assert len(val) == 360
    assert train.classes == val.classes == [str(digit) for digit in range(10)]
