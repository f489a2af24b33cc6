"""scikit-learn's handwritten digits as image files: real images that need no download.

1,797 scans of 8 x 8 pixels (UCI, "Optical Recognition of Handwritten Digits"), written as PNG in ``train/<digit>/`` and
``val/<digit>/``; every fifth image is for validation.
"""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from conmim_lightning.data.synthetic.make_once import make_once


def write_digits(root: str | os.PathLike[str], *, size: int = 48) -> None:
    """Write the digits, unless the folder already holds them.

    Args:
        root: folder to create.
        size: pixels per side of the files; the scans are enlarged, bicubic.

    Raises:
        ValueError: scikit-learn is not installed, or the folder holds other files.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ValueError("data=digits needs scikit-learn: pip install scikit-learn") from error

    def write(folder: Path) -> None:
        for index, (image, label) in enumerate(zip(*load_digits(return_X_y=True), strict=True)):
            target = folder / ("val" if index % 5 == 0 else "train") / str(label)
            target.mkdir(parents=True, exist_ok=True)
            grey = Image.fromarray((image.reshape(8, 8) * 255 / 16).astype(np.uint8))
            grey.resize((size, size), Image.Resampling.BICUBIC).save(target / f"digit_{index:04d}.png")

    make_once(root, {"digits": 1797, "size": size}, write)
