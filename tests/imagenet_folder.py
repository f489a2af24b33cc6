"""Three of ImageNet's classes."""

from pathlib import Path

from PIL import Image

from conmim_lightning.data.sources.imagenet import wordnet_ids

IDS = ("n02129604", "n01440764", "n15075141")  # tiger, tench, toilet tissue: 292, 0, 999


def write_imagenet(root: Path) -> Path:
    """Folders named by WordNet id, with ten training and two validation images each, and the lists of them."""
    for split, count in (("train", 10), ("val", 2)):
        lines = []
        for name in IDS:
            for index in range(count):
                path = root / split / name / f"{name}_{index}.JPEG"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (40, 30), (index, 0, 0)).save(path)
                lines.append(f"{name}/{path.name} {wordnet_ids().index(name)}")
        (root / f"{split}_map.txt").write_text("\n".join(lines))
    return root
