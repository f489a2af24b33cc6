"""Apply sampled perturbations to a uint8 batch on its device; each image has its own row of parameters.

Between operations, values remain integer grey levels (0 to 255, as float32), like the 8-bit images of the official
pipeline. The random order of the jitter needs no branching: brightness, contrast and saturation blend the image with a
reference, so those that precede the hue are applied first, then the hue, then the rest. Images that are not RGB keep
their colours: saturation, hue and grayscale do nothing, and contrast uses the mean over all channels.

Shapes: B images, C channels, H x W pixels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conmim_lightning.perturbation.draw import COLUMNS, JITTER

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation per channel, on a scale of 0 to 1; official."""

_LUMA = (0.2989, 0.587, 0.114)
_HUE = JITTER.index("hue")
_BLUR_REACH = 4  # kernel half-width in units of the largest standard deviation


def perturb(crop: Tensor, rows: Tensor, *, largest_sigma: float) -> Tensor:
    """Apply one row of perturbation parameters per image.

    Args:
        crop: (B, C, H, W) uint8, or float with integer grey levels.
        rows: (B, P) float32 on the same device, see ``draw.COLUMNS``.
        largest_sigma: upper bound of the blur's standard deviation in pixels; sets the kernel size.

    Returns:
        (B, C, H, W) float32, integer grey levels from 0 to 255.
    """
    column = {name: rows[:, i].view(-1, 1, 1, 1) for i, name in enumerate(COLUMNS)}
    image = jitter(crop.float(), column)
    if extra := rows.shape[1] - len(COLUMNS):
        image = jitter_channels(image, rows[:, -extra:])
    if crop.shape[1] == 3:
        image = torch.where(column["gray"] > 0, grayscale(image), image)
    image = blur(image, rows[:, COLUMNS.index("blur")], largest_sigma=largest_sigma)
    return torch.where(image >= column["solarize"], 255 - image, image)


def jitter(image: Tensor, column: dict[str, Tensor]) -> Tensor:
    """Apply brightness, contrast, saturation and hue in each image's order; (B, C, H, W) float to the same shape."""
    orders = _order(column["order"].view(-1).long())
    hue_slot = (orders == _HUE).int().argmax(1)
    for slot in (0, 1, 2):
        operation = torch.where(slot < hue_slot, orders[:, slot], _HUE)  # the hue's index means "no operation"
        image = _blend(image, operation.view(-1, 1, 1, 1), column)
    if image.shape[1] == 3:
        image = torch.where(column["hue"] != 0, shift_hue(image, column["hue"]), image)
    for slot in (1, 2, 3):
        operation = torch.where(slot > hue_slot, orders[:, slot], _HUE)
        image = _blend(image, operation.view(-1, 1, 1, 1), column)
    return image


def jitter_channels(image: Tensor, factors: Tensor) -> Tensor:
    """Apply brightness, then contrast around its own mean, to each channel: (B, C, H, W) float to the same shape.

    Args:
        image: (B, C, H, W), integer grey levels.
        factors: (B, 2 C): factor of the brightness of each channel, then of its contrast.
    """
    brightness, contrast = factors.view(len(image), 2, -1, 1, 1).unbind(1)
    image = (image * brightness).clamp(0, 255).floor()
    mean = image.mean((2, 3), keepdim=True).floor()
    return (contrast * image + (1 - contrast) * mean).clamp(0, 255).floor()


def _order(number: Tensor) -> Tensor:
    """Return rows of ``draw.ORDERS``, computed on the device without copying a table; (B,) int64 -> (B, 4)."""
    first, second, third = number // 6, number % 6 // 2, number % 2  # second and third index the remaining operations
    second = second + (second >= first)
    for taken in (torch.minimum(first, second), torch.maximum(first, second)):
        third = third + (third >= taken)
    return torch.stack([first, second, third, 6 - first - second - third], 1)


def _blend(image: Tensor, operation: Tensor, column: dict[str, Tensor]) -> Tensor:
    """Apply brightness (reference 0), contrast (mean grey), saturation (grey) or nothing, per image."""
    is_rgb = image.shape[1] == 3
    gray = grayscale(image) if is_rgb else image.mean(1, keepdim=True).floor()
    brightness, contrast, saturation = (operation == i for i in range(3))
    if not is_rgb:
        saturation = torch.zeros_like(saturation)
    factor = torch.where(brightness, column["brightness"], torch.where(contrast, column["contrast"], 1.0))
    factor = torch.where(saturation, column["saturation"], factor)
    reference = contrast * gray.mean((1, 2, 3), keepdim=True) + saturation * gray
    return (factor * image + (1 - factor) * reference).clamp(0, 255).floor()


def grayscale(image: Tensor) -> Tensor:
    """Return the luminance (ITU-R 601), integer grey levels: (B, 3, H, W) -> (B, 1, H, W)."""
    red, green, blue = image.unbind(1)
    return (_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue).floor().unsqueeze(1)


def shift_hue(image: Tensor, shift: Tensor) -> Tensor:
    """Shift the hue in HSV space.

    Args:
        image: (B, 3, H, W) integer grey levels.
        shift: (B, 1, 1, 1), fraction of the colour circle.
    """
    value, _ = image.max(1, keepdim=True)
    chroma = value - image.amin(1, keepdim=True)
    red, green, blue = (image / 255).split(1, 1)
    safe = torch.where(chroma == 0, 1.0, chroma) / 255
    sector = torch.where(
        value == image[:, :1],
        (green - blue) / safe,
        torch.where(value == image[:, 1:2], 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = torch.remainder(sector / 6 + shift, 1.0) * 6  # 0 to 6
    # A channel is value minus chroma times a trapezoid of the hue, offset by the channel's position on the circle.
    offset = torch.arange(5, 0, -2, device=image.device).view(1, 3, 1, 1)  # 5, 3, 1
    position = torch.remainder(offset + hue, 6.0)
    trapezoid = torch.minimum(position, 4 - position).clamp(0, 1)
    return (value - chroma * trapezoid + 1e-3).floor().clamp(0, 255)


def blur(image: Tensor, sigma: Tensor, *, largest_sigma: float) -> Tensor:
    """Apply Gaussian blur with one standard deviation per image and reflected borders.

    differs from official: Pillow approximates the Gaussian by three box filters and repeats the border pixels.

    Args:
        image: (B, C, H, W), integer grey levels.
        sigma: (B,) pixels; 0 leaves the image unchanged.
        largest_sigma: upper bound of sigma; sets the kernel size, limited by the image size.
    """
    if image.device.type == "cpu":  # blur only the few selected images; on a GPU, selecting them would synchronise
        chosen = (sigma > 0).nonzero().squeeze(1)
        if len(chosen) == 0:
            return image
        return image.index_copy(0, chosen, _blur_batch(image[chosen], sigma[chosen], largest_sigma))
    return torch.where((sigma > 0).view(-1, 1, 1, 1), _blur_batch(image, sigma.clamp(min=1e-3), largest_sigma), image)


def _blur_batch(image: Tensor, sigma: Tensor, largest_sigma: float) -> Tensor:
    batch, channels, height, width = image.shape
    reach = min(int(_BLUR_REACH * largest_sigma + 0.5), height - 1, width - 1)
    offset = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (offset / sigma[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)  # (B * C, taps)
    planes = F.pad(image.reshape(1, batch * channels, height, width), (reach, reach, reach, reach), mode="reflect")
    planes = F.conv2d(planes, kernel[:, None, :, None], groups=batch * channels)
    planes = F.conv2d(planes, kernel[:, None, None, :], groups=batch * channels)
    return planes.view_as(image).round().clamp(0, 255)


class Perturbation(nn.Module):
    """Convert the crops of a batch to normalised views on the batch's device.

    Args:
        mean: mean per channel, on a scale of 0 to 1.
        std: standard deviation per channel, on a scale of 0 to 1, > 0.
        strengths: "weak" or "strong" for student's and teacher's view; a weak view is only normalised.
        largest_sigma: upper bound of the blur's standard deviation in pixels.

    Raises:
        ValueError: mean and std differ in length, or a std is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        strengths: Sequence[str] = ("weak", "strong"),
        largest_sigma: float = 2.0,
    ) -> None:
        super().__init__()
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(f"mean and std need one entry per channel and std > 0, got mean {mean} and std {std}")
        self.register_buffer("mean", torch.tensor(list(mean)).view(1, -1, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).view(1, -1, 1, 1) * 255, persistent=False)
        self.strengths = tuple(strengths)
        self.largest_sigma = largest_sigma

    def as_image(self, view: Tensor) -> Tensor:
        """Return a normalised (C, H, W) view as an RGB image on the CPU, (H, W, 3) in [0, 1], of its first channels."""
        pixels = ((view * self.std[0] + self.mean[0]) / 255).clamp(0, 1).cpu()
        return (pixels[:3] if len(pixels) > 2 else pixels[:1]).expand(3, -1, -1).permute(1, 2, 0)

    def normalize(self, image: Tensor) -> Tensor:
        """Normalise per channel: (B, C, H, W) uint8 or float grey levels -> float32."""
        return (image - self.mean) / self.std

    @torch.no_grad()
    def forward(self, crop: Tensor, rows: Tensor) -> list[Tensor]:
        """Return the views of a batch.

        Args:
            crop: (B, C, H, W) uint8 crops.
            rows: (B, V, P) float32 parameters, see ``draw.COLUMNS``.

        Returns:
            V normalised views, each (B, C, H, W) float32.
        """
        return [
            self.normalize(perturb(crop, rows[:, i], largest_sigma=self.largest_sigma) if s == "strong" else crop)
            for i, s in enumerate(self.strengths)
        ]
