import pytest
from downstream_runs import configure

from conmim_lightning.train import run as train


def test_selection_on_the_test_images_is_rejected(labelled_runs, tmp_path):
    _, changes = labelled_runs
    with pytest.raises(ValueError, match=r"selecting one of 27 classifiers needs other images than those of the test"):
        train(configure("train", tmp_path, "experiment=vit_b_linear", *changes, "data.held_out_fraction=0"))
