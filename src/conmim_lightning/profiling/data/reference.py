"""Baseline: the work of the official code per image in a loader process, written from its description.

Pillow decodes the whole file; after a flip, one crop is sampled and resized twice (the second, half-size result is
discarded); two float views are created and normalised, the strong view jittered and sometimes grey, blurred or
solarised, all on the CPU. This is not the official code.
"""

import random
from io import BytesIO

import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import functional as F

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_UNIT = 32  # pixels of a masking unit


class OfficialPipeline:
    """Convert an image's bytes to two float views and a mask.

    Args:
        size: pixels per side of the views, a multiple of 32.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.jitter = transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)], p=0.8)
        self.grey = transforms.RandomGrayscale(p=0.2)
        self.finish = transforms.Compose([transforms.ToTensor(), transforms.Normalize(_MEAN, _STD)])

    def __call__(self, content: bytes) -> tuple[Tensor, Tensor, Tensor]:
        """Return weak view and strong view, (3, size, size) float32, and mask, (size / 16, size / 16) int64."""
        image = Image.open(BytesIO(content)).convert("RGB")
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        box = transforms.RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])  # type: ignore[arg-type]
        crop = F.resized_crop(image, *box, [self.size, self.size], F.InterpolationMode.BICUBIC)  # type: ignore[arg-type]
        F.resized_crop(image, *box, [self.size // 2, self.size // 2], F.InterpolationMode.LANCZOS)  # type: ignore[arg-type]
        strong = self.grey(self.jitter(crop))
        if random.random() <= 0.1:
            strong = strong.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))
        if random.random() < 0.2:
            strong = ImageOps.solarize(strong)
        return self.finish(crop), self.finish(strong), self._mask()  # type: ignore[return-value]

    def _mask(self) -> Tensor:
        units = (self.size // _UNIT) ** 2
        mask = np.zeros(units, dtype=int)
        mask[np.random.permutation(units)[: int(np.ceil(units * 0.75))]] = 1
        side = mask.reshape(self.size // _UNIT, -1).repeat(2, axis=0).repeat(2, axis=1)
        return torch.from_numpy(side)
