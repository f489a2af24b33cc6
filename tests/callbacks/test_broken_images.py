import shutil

import pytest
from callback_runs import callback_of, folder_overrides
from downstream_runs import configure, metrics_of

from conmim_lightning.callbacks.broken_images import BrokenImages, TooManyBrokenError
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.train import run
from conmim_lightning.train import run as train


def test_broken_images_are_listed_and_counted(damaged, tmp_path, composed, tiny, caplog):
    with caplog.at_level("INFO"):
        trainer = run(composed(*folder_overrides(damaged, tiny), "callbacks.broken_images.max_fraction=0.1"))
    lines = (tmp_path / "run" / "broken_images.tsv").read_text().splitlines()
    assert len(lines) == 2
    names = {FolderSource(damaged).name(index) for index in (5, 6)}
    assert {line.split("\t")[0] for line in lines} == names
    assert all(line.endswith("\tUnidentifiedImageError: cannot identify image file") for line in lines)
    assert "2 broken images were replaced" in caplog.text
    assert trainer.global_step == 6
    assert callback_of(trainer, BrokenImages).broken == names


def test_too_many_broken_images_stop_the_run(damaged, composed, tiny):
    message = r"of 48 images cannot be read, more than the allowed fraction of 1.00%"
    with pytest.raises(TooManyBrokenError, match=message):
        run(composed(*folder_overrides(damaged, tiny)))


def test_the_count_continues_after_a_resume():
    callback, resumed = BrokenImages("x"), BrokenImages("x")
    callback.broken = {"b.jpg", "a.jpg"}
    resumed.load_state_dict(callback.state_dict())
    assert resumed.broken == {"a.jpg", "b.jpg"}


@pytest.mark.parametrize("fraction", [-0.1, 1.5])
def test_a_fraction_out_of_range(fraction):
    with pytest.raises(ValueError, match=str(fraction)):
        BrokenImages("x", max_fraction=fraction)


def test_broken_images_of_val_do_not_count_against_training(labelled_runs, tmp_path, scenes_root):
    _, changes = labelled_runs
    shutil.copytree(scenes_root / "folders", tmp_path / "set")
    for path in sorted((tmp_path / "set" / "val").glob("*/*.jpg"))[:2]:
        path.write_bytes(b"nothing")
    own = [*changes, "data.prepare=null", f"data.root={tmp_path}/set", "data.evaluation_batch_size=1"]
    train(configure("train", tmp_path / "run", "experiment=quickstart_finetune", *own))
    assert not (tmp_path / "run" / "broken_images.tsv").exists()
    assert len((tmp_path / "run" / "test_broken_images.tsv").read_text().splitlines()) == 2
    assert metrics_of(tmp_path / "run")["test/unreadable_images"] == 2
