from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from conmim_lightning.data.crop import RandomResizedCrop
from conmim_lightning.data.decode import Decoder
from conmim_lightning.data.folder import FolderSource
from conmim_lightning.data.modules.pretrain import UncuratedDataModule
from conmim_lightning.masking.random_units import RandomUnitMasking
from conmim_lightning.perturbation.draw import PerturbationDraw


def module(root: Path, **changes):
    arguments = {
        "root": str(root),
        "source": FolderSource,
        "decoder": Decoder(),
        "crop": RandomResizedCrop(32),
        "masking": RandomUnitMasking(grid_size=4, unit_size=1, ratio=0.5),
        "perturbation": PerturbationDraw(),
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "batch_size": 8,
        "seed": 0,
        "num_workers": 0,
    }
    return UncuratedDataModule(**(arguments | changes))


def test_batches_are_small_and_whole(scenes_root: Path):
    data = module(scenes_root / "folders" / "train")
    data.setup()
    batches = list(data.train_dataloader())
    assert len(batches) == 6
    assert batches[0].crop.shape == (8, 3, 32, 32)
    assert batches[0].crop.dtype == torch.uint8
    assert batches[0].mask.shape == (8, 4, 4)
    two_float_views = 2 * batches[0].crop.numel() * 4
    assert sum(field.numel() * field.element_size() for field in batches[0][:4]) < two_float_views / 4


def test_probes(scenes_root: Path):
    data = module(
        scenes_root / "folders" / "train",
        labelled_root=str(scenes_root / "folders"),
        class_map_root=str(scenes_root / "ade20k"),
        num_map_classes=6,
    )
    data.setup()
    found = {(probe, role): sum(len(batch.index) for batch in loader) for probe, role, loader in data.probe_loaders()}
    assert found == {
        ("knn", "reference"): 48,
        ("knn", "query"): 24,
        ("dense", "reference"): 48,
        ("dense", "query"): 24,
    }


def test_an_unlabelled_tree_has_no_probes(scenes_root: Path):
    data = module(scenes_root / "coco" / "train")
    data.setup()
    assert list(data.probe_loaders()) == []
    assert data.held_out_crops(3).crop.shape == (3, 3, 32, 32)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"root": "/nowhere"}, "'/nowhere' does not exist"),
        ({"batch_size": 1}, "at least 2.*got 1"),
        ({"mean": [0.5]}, "3 entries"),
        ({"num_workers": -1}, "got -1"),
        ({"dense_images": 0}, "dense_images .*got 0"),
        ({"class_map_root": "."}, "num_map_classes"),
    ],
)
def test_bad_arguments(scenes_root: Path, changes, told):
    with pytest.raises(ValueError, match=told):
        module(**({"root": scenes_root / "folders" / "train"} | changes))


def test_batch_larger_than_the_collection(scenes_root: Path):
    with pytest.raises(ValueError, match=r"48 images .* do not fill one batch of 64 x 1 devices; .* at most 48"):
        module(scenes_root / "folders" / "train", batch_size=64).setup()


def test_classes_that_differ(scenes_root: Path, tmp_path: Path):
    for part, names in (("train", "ab"), ("val", "ac")):
        for name in names:
            (tmp_path / part / name).mkdir(parents=True)
            (tmp_path / part / name / "1.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"\['c'\] that are not among \['a', 'b'\]"):
        module(scenes_root / "folders" / "train", labelled_root=str(tmp_path)).setup()


def trainer_at(epoch, batches, world=1, rank=0):
    """What the data module asks a trainer."""
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


def place(state):
    return {name: state[name] for name in ("epoch", "samples", "batches")}


def test_goes_on_where_training_was(scenes_root: Path):
    state = state_at(scenes_root, 2, 4)
    assert place(state) == {"epoch": 2, "samples": 32, "batches": 16}
    assert indices(scenes_root, state) == indices(scenes_root, epoch=2)[4:]


def test_goes_on_with_two_devices_and_back(scenes_root: Path):
    state = state_at(scenes_root, 1, 4)
    parts = [indices(scenes_root, state, world=2, rank=rank, batch_size=4) for rank in range(2)]
    wanted = indices(scenes_root, epoch=1)[4:]
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(batch) for batch in wanted]


def test_there_and_back_again(scenes_root: Path):
    """One device, then two, then one: none twice, none left out, all in the order of one device alone."""
    data = module(scenes_root / "folders" / "train", batch_size=4)
    data.load_state_dict(state_at(scenes_root, 0, 2))
    data.trainer = trainer_at(0, 3, world=2)  # one batch of 2 x 4 more
    data.setup()
    state = data.state_dict()
    assert place(state) == {"epoch": 0, "samples": 24, "batches": 3}
    first, last = indices(scenes_root)[:2], indices(scenes_root, state)
    parts = [indices(scenes_root, state_at(scenes_root, 0, 2), 2, rank, 4)[0] for rank in range(2)]
    both = [index for pair in zip(*parts, strict=True) for index in pair]
    assert [*first, both, *last] == indices(scenes_root)


def test_another_batch_from_an_epochs_end_keeps_counting_epochs(scenes_root: Path):
    data = module(scenes_root / "folders" / "train", batch_size=16)
    data.load_state_dict(state_at(scenes_root, 2, 0))
    data.trainer = trainer_at(2, 1)  # one batch of 16 after 12 of 8
    data.trainer.num_training_batches = 3
    data.setup()
    assert place(data.state_dict()) == {"epoch": 2, "samples": 16, "batches": 13}


def test_a_place_between_two_batches(scenes_root: Path):
    with pytest.raises(ValueError, match=r"8 samples into epoch 0, which is no multiple of the batch of 16 x 1"):
        indices(scenes_root, {"epoch": 0, "samples": 8, "batches": 1}, batch_size=16)


def test_a_collection_that_changed_is_told(scenes_root: Path, tmp_path: Path):
    import shutil

    shutil.copytree(scenes_root / "folders" / "train", tmp_path / "images")
    state = state_at(scenes_root, 0, 3)
    data = module(tmp_path / "images")
    data.trainer = trainer_at(0, 0)
    data.setup()
    data.load_state_dict(state)
    data.train_dataloader()  # the same names: nothing to tell
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
    data.trainer.strategy.broadcast = lambda mine: "another"
    data.setup()
    with pytest.raises(ValueError, match=r"rank 0 sees other images .* than the first: 48"):
        data.train_dataloader()
