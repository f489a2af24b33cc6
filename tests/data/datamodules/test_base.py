import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning import Trainer
from pretrain_data import module


def trainer_at(epoch, batches, world=1, rank=0):
    """What the data module reads from a trainer."""
    progress = SimpleNamespace(total=SimpleNamespace(processed=epoch * 6 + batches))
    return SimpleNamespace(
        world_size=world,
        global_rank=rank,
        num_training_batches=6,
        strategy=SimpleNamespace(root_device=torch.device("cpu"), broadcast=lambda value: value),
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
    )


def indices(scenes_root, state=None, world=1, rank=0, batch_size=8, epoch=0):
    data = module(scenes_root / "folders" / "train", batch_size=batch_size)
    data.trainer = trainer_at(0, 0, world, rank)
    data.setup()
    if state is not None:
        data.load_state_dict(state)
    loader = data.train_dataloader()
    if state is None:
        loader.sampler.set_epoch(epoch)
    return [batch.index.tolist() for batch in loader]


def state_at(scenes_root, epoch, batches):
    data = module(scenes_root / "folders" / "train")
    data.trainer = trainer_at(epoch, batches)
    data.setup()
    return data.state_dict()


def position(state):
    return {name: state[name] for name in ("epoch", "samples", "batches")}


def test_batch_larger_than_the_collection(scenes_root: Path):
    with pytest.raises(ValueError, match=r"48 images .* do not fill one batch of 64 x 1 devices; .* at most 48"):
        module(scenes_root / "folders" / "train", batch_size=64).setup()


def test_resumes_at_the_position_of_training(scenes_root: Path):
    state = state_at(scenes_root, 2, 4)
    assert position(state) == {"epoch": 2, "samples": 32, "batches": 16}
    assert indices(scenes_root, state) == indices(scenes_root, epoch=2)[4:]


def test_resumes_with_two_devices(scenes_root: Path):
    state = state_at(scenes_root, 1, 4)
    ranks = [indices(scenes_root, state, world=2, rank=rank, batch_size=4) for rank in range(2)]
    wanted = indices(scenes_root, epoch=1)[4:]
    assert [sorted(a + b) for a, b in zip(*ranks, strict=True)] == [sorted(batch) for batch in wanted]


def test_resumes_with_two_devices_and_with_one_again(scenes_root: Path):
    """One device, then two, then one: every sample once, in the order of a single device."""
    data = module(scenes_root / "folders" / "train", batch_size=4)
    data.load_state_dict(state_at(scenes_root, 0, 2))
    data.trainer = trainer_at(0, 3, world=2)  # one batch of 2 x 4 more
    data.setup()
    state = data.state_dict()
    assert position(state) == {"epoch": 0, "samples": 24, "batches": 3}
    first, last = indices(scenes_root)[:2], indices(scenes_root, state)
    ranks = [indices(scenes_root, state_at(scenes_root, 0, 2), 2, rank, 4)[0] for rank in range(2)]
    both = [index for pair in zip(*ranks, strict=True) for index in pair]
    assert [*first, both, *last] == indices(scenes_root)


def test_another_batch_size_from_the_end_of_an_epoch_keeps_the_epoch(scenes_root: Path):
    data = module(scenes_root / "folders" / "train", batch_size=16)
    data.load_state_dict(state_at(scenes_root, 2, 0))
    data.trainer = trainer_at(2, 1)  # one batch of 16 after 12 of 8
    data.trainer.num_training_batches = 3
    data.setup()
    assert position(data.state_dict()) == {"epoch": 2, "samples": 16, "batches": 13}


def test_a_position_within_a_batch(scenes_root: Path):
    with pytest.warns(UserWarning, match="8 samples into epoch 0, within a batch of 16; 8 samples are seen again"):
        repeated = indices(scenes_root, {"epoch": 0, "samples": 8, "batches": 1}, batch_size=16)
    assert repeated == indices(scenes_root, {"epoch": 0, "samples": 0, "batches": 0}, batch_size=16)


def test_a_changed_collection_warns(scenes_root: Path, tmp_path: Path):
    shutil.copytree(scenes_root / "folders" / "train", tmp_path / "images")
    state = state_at(scenes_root, 0, 3)
    data = module(tmp_path / "images")
    data.trainer = trainer_at(0, 0)
    data.setup()
    data.load_state_dict(state)
    data.train_dataloader()  # the same names: no warning
    next((tmp_path / "images").rglob("*.jpg")).rename(tmp_path / "images" / "other.jpg")
    changed = module(tmp_path / "images")
    changed.trainer = trainer_at(0, 0)
    changed.setup()
    changed.load_state_dict(state)
    with pytest.warns(UserWarning, match="holds other images than when the run was interrupted"):
        changed.train_dataloader()


def test_devices_that_see_other_images(scenes_root: Path):
    data = module(scenes_root / "folders" / "train", batch_size=4)
    data.trainer = trainer_at(0, 0, world=2)
    data.trainer.strategy.broadcast = lambda own: "another"
    data.setup()
    with pytest.raises(ValueError, match=r"rank 0 finds other images .* than rank 0: 48"):
        data.train_dataloader()


def test_the_trainer_must_not_distribute_the_images_again(scenes_root: Path):
    """Lightning would wrap the sampler, which is already one per device: each would see a fraction of its images."""
    data = module(scenes_root / "folders" / "train", batch_size=4)
    data.trainer = trainer_at(0, 0, world=2)
    data.setup()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    for distributes in (True, False):
        connector = Trainer(use_distributed_sampler=distributes, **quiet)._accelerator_connector
        data.trainer._accelerator_connector = connector
        if distributes:
            with pytest.raises(ValueError, match=r"set Trainer\(use_distributed_sampler=False\)"):
                data.train_dataloader()
        else:
            assert len(data.train_dataloader()) == 6


def test_one_picture_alone_has_one_message(scenes_root: Path, tmp_path: Path):
    path = next((scenes_root / "folders" / "train").rglob("*.*"))
    (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match=r"1 images .* do not fill .*; at least 2 images per device are needed"):
        module(tmp_path, batch_size=2).setup()
