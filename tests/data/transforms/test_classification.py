import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torchvision import transforms

from conmim_lightning.data.images.pixels import DecodedImage, to_tensor
from conmim_lightning.data.transforms.classification import EvaluationTransform, SquashTransform, TrainTransform
from conmim_lightning.data.transforms.crop import RandomResizedCrop
from conmim_lightning.rng import generator

MEAN = (0.485, 0.456, 0.406)


def photo(width: int, height: int, channels: int = 3) -> DecodedImage:
    y, x = np.mgrid[:height, :width]
    planes = [127 + 90 * np.sin(x / (9 + c)) * np.cos(y / (7 + 2 * c)) for c in range(channels)]
    return DecodedImage(torch.from_numpy(np.stack(planes).astype(np.uint8)))


def train(**changes):
    arguments = {"crop": RandomResizedCrop(64), "mean": MEAN, "auto_augment": "rand-m9-mstd0.5-inc1"} | changes
    return TrainTransform(**arguments)


@pytest.mark.parametrize(("width", "height"), [(90, 70), (70, 91), (64, 64), (300, 77)])
@pytest.mark.parametrize("resize", [72, 64])
def test_evaluation_is_torchvisions_resize_and_crop(width, height, resize):
    """official: Resize(256) and CenterCrop(224) of torchvision on Pillow images."""
    decoded = photo(width, height)
    image = Image.fromarray(decoded.pixels.permute(1, 2, 0).numpy())
    torchvisions = transforms.Compose(
        [transforms.Resize(resize, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(64)]
    )
    expected, pixels = to_tensor(torchvisions(image)).int(), EvaluationTransform(64, resize=resize)(decoded).int()
    assert pixels.shape == expected.shape == (3, 64, 64)
    difference = (pixels - expected).abs()  # rounded after other passes than in Pillow, see data.images.pixels
    assert difference.max() <= 2
    assert (difference > 1).float().mean() < 1e-3


def test_a_ribbon_takes_no_longer_than_its_middle():
    transform = EvaluationTransform(64, resize=72)
    ribbon = photo(9000, 3)
    middle = DecodedImage(ribbon.pixels[:, :, 4494:4506])
    assert torch.equal(transform(ribbon), transform(middle))


def test_the_augmentation_is_timms():
    """The same operations at the same strengths as timm's pipeline for this description."""
    pipeline = create_transform(
        64, is_training=True, auto_augment="rand-m9-mstd0.5-inc1", interpolation="bicubic", mean=MEAN
    )
    augment = next(step for step in pipeline.transforms if type(step).__name__ == "RandAugment")
    ours = train().augment
    assert ours.num_layers == augment.num_layers
    settings = [
        [(op.name, op.prob, op.magnitude, op.magnitude_std, op.hparams) for op in both.ops] for both in (ours, augment)
    ]
    assert settings[0] == settings[1]


def test_a_sample_follows_from_its_generator_alone():
    image, transform = photo(90, 70), train()
    before = np.random.get_state()[1].copy()
    first = transform(image, generator(0, 1, 2))
    assert (np.random.get_state()[1] == before).all()
    np.random.seed(5)
    assert torch.equal(first, transform(image, generator(0, 1, 2)))
    assert not torch.equal(first, transform(image, generator(0, 1, 3)))


def test_without_augmentation_only_the_crop_remains():
    image = photo(90, 70)
    assert torch.equal(
        train(auto_augment=None)(image, generator(0, 0, 0)), RandomResizedCrop(64)(image, generator(0, 0, 0))
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_every_operation_works_on_grey_and_on_colour(channels):
    transform = train(mean=MEAN[:channels], auto_augment="rand-m9-n15-mstd0.5-inc1")
    for index in range(20):
        assert transform(photo(70, 70, channels), generator(0, 0, index)).shape == (channels, 64, 64)


def test_zero_bits_are_black():
    """As with the Pillow of the official code's time; Pillow 13 raises."""
    transform = train(auto_augment="rand-m10-n15-inc1")
    posterize = next(op for op in transform.augment.ops if op.name == "PosterizeIncreasing")
    posterize.prob = 1.0
    assert np.asarray(posterize(Image.new("RGB", (8, 8), (200, 100, 50)))).max() == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: train(auto_augment="augmix"), "rand-m..., or null, got 'augmix'"),
        (lambda: train(auto_augment="rand-m9-z3"), "not understood by timm"),
        (lambda: train(mean=(0.5,) * 4), "grey or RGB images, got 4 channels"),
        (lambda: EvaluationTransform(64, resize=63), "1 <= size <= resize, got 64 and 63"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_squashing_keeps_the_whole_width():
    pixels = torch.zeros(3, 8, 32, dtype=torch.uint8)
    pixels[..., :16] = 200
    squashed = SquashTransform(8)(DecodedImage(pixels))
    assert squashed.shape == (3, 8, 8)
    assert squashed[0, 0, 0] > 190
    assert squashed[0, 0, -1] < 10
    cropped = SquashTransform(8, resize=16)(DecodedImage(pixels))
    assert torch.equal(cropped, SquashTransform(16)(DecodedImage(pixels))[:, 4:12, 4:12])
    with pytest.raises(ValueError, match="interpolation must be bicubic or bilinear, got 'nearest'"):
        SquashTransform(8, interpolation="nearest")
