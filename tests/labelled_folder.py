"""Class folders, lists of their images, and a data module for them."""

from collections import Counter
from pathlib import Path

from PIL import Image

from conmim_lightning.data.datamodules.classification import ClassificationDataModule
from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.sources.splits import FolderSplits
from conmim_lightning.data.transforms.classification import EvaluationTransform, TrainTransform
from conmim_lightning.data.transforms.crop import RandomResizedCrop

COUNTS = {"train": 10, "val": 3, "test": 2}


def write_labelled(root: Path) -> Path:
    """Classes a, b, c; ten training, three validation and two test images each, and lists of them."""
    for split, count in COUNTS.items():
        lines = []
        for label, name in enumerate("abc"):
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                Image.new("RGB", (40, 30), (80 * label, 0, 0)).save(root / split / name / f"{index}.png")
                lines.append(f"{split}/{name}/{index}.png {label}")
        (root / f"{split}.txt").write_text("\n".join(lines))
    return root


def module(root: Path, **changes) -> ClassificationDataModule:
    arguments = {
        "root": str(root),
        "source": FolderSplits(),
        "num_classes": 3,
        "decoder": Decoder(),
        "train_transform": TrainTransform(crop=RandomResizedCrop(16), mean=(0.5,) * 3),
        "evaluation_transform": EvaluationTransform(16),
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "batch_size": 4,
        "seed": 0,
        "num_workers": 0,
    }
    return ClassificationDataModule(**(arguments | changes))


def labels(loader) -> Counter:
    return Counter(label for batch in loader for label in batch.label.tolist())
