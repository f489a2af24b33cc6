"""A small data module of pre-training."""

from pathlib import Path

from conmim_lightning.data.datamodules.pretrain import PretrainDataModule
from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.data.transforms.crop import RandomResizedCrop
from conmim_lightning.masking.random_units import RandomUnitMasking
from conmim_lightning.perturbation.draw import PerturbationDraw


def arguments(**changes):
    """What every data module of pre-training needs; crops of 32 pixels, 4 x 4 patches."""
    return {
        "decoder": Decoder(),
        "crop": RandomResizedCrop(32),
        "masking": RandomUnitMasking(grid_size=4, unit_size=1, ratio=0.5),
        "perturbation": PerturbationDraw(),
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "batch_size": 8,
        "seed": 0,
        "num_workers": 0,
    } | changes


def module(root: Path, **changes):
    return PretrainDataModule(**({"root": str(root), "source": FolderSource} | arguments(**changes)))
