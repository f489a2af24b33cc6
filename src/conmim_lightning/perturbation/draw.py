"""Sampling of perturbation parameters: generator -> one row of numbers per view."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Generator, Tensor

COLUMNS = ("brightness", "contrast", "saturation", "hue", "order", "gray", "blur", "solarize")
"""Columns of a row of parameters; with ``per_channel`` jitter, further factors follow, see ``PerturbationDraw``.

brightness, contrast, saturation: factors, 1 = unchanged. hue: shift in [-0.5, 0.5] of the colour circle, 0 = unchanged.
order: index in ``ORDERS`` of the permutation of the four jitter operations. gray: 1 = grayscale. blur: standard
deviation in pixels, 0 = no blur. solarize: threshold in grey levels, 256 = no solarisation.
"""

JITTER = ("brightness", "contrast", "saturation", "hue")
ORDERS: tuple[tuple[int, ...], ...] = tuple(
    (a, b, c, 6 - a - b - c) for a in range(4) for b in range(4) for c in range(4) if len({a, b, c}) == 3
)
"""All 24 orders of the jitter operations, as positions in ``JITTER``."""

WEAK = (1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 256.0)
"""Row of parameters that leaves an image unchanged."""

Strength = Literal["weak", "strong"]


class PerturbationDraw:
    """Sample the rows of parameters for the student's and the teacher's view of one crop.

    A strong view gets, in this order, colour jitter in random order, grayscale, Gaussian blur and solarisation, each
    with its probability; a weak view is the unchanged crop. official: student weak, teacher strong, and all defaults.

    Args:
        student: strength of the student's view, "weak" or "strong".
        teacher: strength of the teacher's view, "weak" or "strong".
        brightness: range of the factor, uniform in [max(0, 1 - brightness), 1 + brightness]; >= 0.
        contrast: range of the factor, uniform in [max(0, 1 - contrast), 1 + contrast]; >= 0.
        saturation: range of the factor, uniform in [max(0, 1 - saturation), 1 + saturation]; >= 0.
        hue: largest shift, which is uniform in [-hue, hue]; in [0, 0.5].
        jitter_probability: probability of the whole colour jitter, in [0, 1].
        gray_probability: probability of grayscale, in [0, 1].
        blur_probability: probability of the blur, in [0, 1].
        blur_sigma: smallest and largest standard deviation in pixels; 0 < smallest <= largest.
        solarize_probability: probability of solarisation, in [0, 1].
        solarize_threshold: grey level from which values are inverted, in [0, 255].
        per_channel: number of channels with brightness and contrast of their own, on top of the common ones, for
            images that are not RGB; 0 for none. The rows then have two further columns per channel: its factors of
            brightness, then of contrast, from the same ranges.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        *,
        student: Strength = "weak",
        teacher: Strength = "strong",
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.2,
        hue: float = 0.1,
        jitter_probability: float = 0.8,
        gray_probability: float = 0.2,
        blur_probability: float = 0.1,
        blur_sigma: Sequence[float] = (0.1, 2.0),
        solarize_probability: float = 0.2,
        solarize_threshold: float = 128,
        per_channel: int = 0,
    ) -> None:
        for name, strength in (("student", student), ("teacher", teacher)):
            if strength not in ("weak", "strong"):
                raise ValueError(f"{name} view must be 'weak' or 'strong', got {strength!r}")
        probabilities = {
            "jitter_probability": jitter_probability,
            "gray_probability": gray_probability,
            "blur_probability": blur_probability,
            "solarize_probability": solarize_probability,
        }
        amounts = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        ranges = {name: (value, 1.0) for name, value in probabilities.items()}
        ranges |= {name: (value, math.inf) for name, value in amounts.items()}
        ranges |= {"hue": (hue, 0.5), "solarize_threshold": (solarize_threshold, 255)}
        for name, (value, largest) in ranges.items():
            if not 0 <= value <= largest:
                raise ValueError(f"{name} must lie in [0, {largest}], got {value}")
        if len(blur_sigma) != 2 or not 0 < blur_sigma[0] <= blur_sigma[1]:
            raise ValueError(f"blur_sigma must be [smallest, largest] with 0 < smallest <= largest, got {blur_sigma}")
        self.strengths = (student, teacher)
        self.amounts = amounts
        self.hue = hue
        self.probabilities = probabilities
        self.blur_sigma = tuple(blur_sigma)
        self.solarize_threshold = solarize_threshold
        if per_channel < 0:
            raise ValueError(f"per_channel is a number of channels, or 0, got {per_channel}")
        self.per_channel = per_channel
        self.weak = [*WEAK, *[1.0] * (2 * per_channel)]

    def __call__(self, generator: Generator) -> Tensor:
        """Sample (2, P) float32, P = len(COLUMNS) + 2 per_channel: the student's row, then the teacher's."""
        return torch.tensor(
            [self.weak if strength == "weak" else self._strong(generator) for strength in self.strengths]
        )

    def _strong(self, generator: Generator) -> list[float]:
        draw: dict[str, float] = dict(
            zip((*COLUMNS, "jitter"), torch.rand(len(COLUMNS) + 1, generator=generator).tolist(), strict=True)
        )
        sigma = torch.rand(1, generator=generator).item()
        row: dict[str, float] = dict(zip(COLUMNS, WEAK, strict=True))
        if draw["jitter"] < self.probabilities["jitter_probability"]:
            for name, amount in self.amounts.items():
                low, high = max(0.0, 1 - amount), 1 + amount
                row[name] = low + draw[name] * (high - low)
            row["hue"] = (2 * draw["hue"] - 1) * self.hue
            row["order"] = float(int(draw["order"] * len(ORDERS)))
        if draw["gray"] < self.probabilities["gray_probability"]:
            row["gray"] = 1.0
        if draw["blur"] < self.probabilities["blur_probability"]:
            row["blur"] = self.blur_sigma[0] + sigma * (self.blur_sigma[1] - self.blur_sigma[0])
        if draw["solarize"] < self.probabilities["solarize_probability"]:
            row["solarize"] = self.solarize_threshold
        return [row[name] for name in COLUMNS] + self._channels(generator, draw["jitter"])

    def _channels(self, generator: Generator, draw: float) -> list[float]:
        """Return the factors of brightness and of contrast of each channel."""
        if not self.per_channel:
            return []
        values = torch.rand(2, self.per_channel, generator=generator).tolist()
        if draw >= self.probabilities["jitter_probability"]:
            return [1.0] * (2 * self.per_channel)
        limits = [(max(0.0, 1 - self.amounts[name]), 1 + self.amounts[name]) for name in ("brightness", "contrast")]
        return [low + value * (high - low) for (low, high), row in zip(limits, values, strict=True) for value in row]
