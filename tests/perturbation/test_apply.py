"""Agreement with torchvision on the same parameters, within one or two grey levels."""

import pytest
import torch
import torch._dynamo.utils
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_images
from torchvision.transforms import functional as tv

from conmim_lightning.perturbation.apply import Perturbation, _order, blur, grayscale, perturb, shift_hue
from conmim_lightning.perturbation.draw import COLUMNS, ORDERS, WEAK


@pytest.fixture(scope="module")
def images():
    """Two photographs, cropped to 96 pixels, and noise: (3, 3, 96, 96) uint8."""
    photographs = [torch.tensor(image)[100:196, 200:296].permute(2, 0, 1) for image in load_sample_images().images]
    noise = torch.randint(0, 256, (3, 96, 96), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return torch.stack([*photographs, noise])


def rows(**columns):
    values = dict(zip(COLUMNS, WEAK, strict=True)) | columns
    return torch.tensor([[values[name] for name in COLUMNS]] * 3)


def distance(one, other):
    return (one.float() - other.float()).abs().max().item()


@pytest.mark.parametrize("factor", [0.6, 0.83, 1.0, 1.4])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_mixing_operations(images, name, factor):
    wanted = getattr(tv, f"adjust_{name}")(images, factor)
    assert distance(perturb(images, rows(**{name: factor}), largest_sigma=2), wanted) <= 1


@pytest.mark.parametrize("shift", [-0.5, -0.1, -0.03, 0.07, 0.1, 0.5])
def test_hue(images, shift):
    assert distance(perturb(images, rows(hue=shift), largest_sigma=2), tv.adjust_hue(images, shift)) <= 1


def test_hue_of_greys_and_primaries():
    colours = torch.tensor([[0, 0, 0], [255, 255, 255], [128, 128, 128], [255, 0, 0], [0, 255, 0], [0, 0, 255]])
    image = colours.T.reshape(1, 3, 1, 6).to(torch.uint8)
    shifted = shift_hue(image.float(), torch.full((1, 1, 1, 1), 1 / 3))
    assert shifted[0, :, 0].T.tolist() == [[0] * 3, [255] * 3, [128] * 3, [0, 255, 0], [0, 0, 255], [255, 0, 0]]


def test_grayscale(images):
    assert distance(perturb(images, rows(gray=1.0), largest_sigma=2), tv.rgb_to_grayscale(images, 3)) <= 1


def test_solarize(images):
    assert distance(perturb(images, rows(solarize=128.0), largest_sigma=2), tv.solarize(images, 128)) == 0


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 1.7, 2.0])
def test_blur_equals_torchvision(images, sigma):
    wanted = tv.gaussian_blur(images, [17, 17], [sigma, sigma])
    assert distance(perturb(images, rows(blur=sigma), largest_sigma=2), wanted) <= 1


def test_blur_is_near_pillow_away_from_the_border(images):
    # The official code blurs with Pillow, whose Gaussian is three box filters.
    photograph = images[:1]
    ours = perturb(photograph, rows(blur=1.5)[:1], largest_sigma=2)[0]
    pillow = Image.fromarray(photograph[0].permute(1, 2, 0).numpy()).filter(ImageFilter.GaussianBlur(1.5))
    theirs = torch.frombuffer(bytearray(pillow.tobytes()), dtype=torch.uint8).view(96, 96, 3).permute(2, 0, 1)
    inside = (slice(None), slice(8, -8), slice(8, -8))
    assert (ours[inside] - theirs[inside].float()).abs().mean() < 1


def test_blur_of_all_equals_blur_of_the_selected(images):
    # The CPU blurs only the selected images; other devices blur all and select: the result is the same.
    from conmim_lightning.perturbation.apply import _blur_batch

    sigma = torch.tensor([0.0, 1.3, 0.4])
    everywhere = torch.where(
        (sigma > 0).view(-1, 1, 1, 1), _blur_batch(images.float(), sigma.clamp(min=1e-3), 2), images
    )
    assert torch.equal(blur(images.float(), sigma, largest_sigma=2), everywhere)


def test_computed_orders_are_the_listed_ones():
    assert _order(torch.arange(24)).tolist() == [list(order) for order in ORDERS]


@pytest.mark.parametrize("order", range(24))
def test_jitter_in_each_order(images, order):
    factors = {"brightness": 1.3, "contrast": 0.7, "saturation": 1.2, "hue": 0.08}
    wanted = images
    for operation in ORDERS[order]:
        name = list(factors)[operation]
        wanted = getattr(tv, f"adjust_{name}")(wanted, factors[name])
    ours = perturb(images, rows(order=float(order), **factors), largest_sigma=2)
    # Each of the four operations rounds to whole grey levels, and the next ones enlarge the difference by up to 1.4.
    assert distance(ours, wanted) <= 4
    assert (ours - wanted.float()).abs().mean() < 0.5


def test_orders_differ(images):
    factors = {"brightness": 1.4, "contrast": 0.6, "saturation": 1.2, "hue": 0.1}
    results = [perturb(images, rows(order=float(order), **factors), largest_sigma=2) for order in range(24)]
    assert len({result.sum().item() for result in results}) > 12


def test_each_sample_has_its_own_row(images):
    table = torch.cat([rows(brightness=0.7)[:1], rows(solarize=128.0)[:1], rows(blur=1.0, gray=1.0)[:1]])
    together = perturb(images, table, largest_sigma=2)
    alone = torch.cat([perturb(images[i : i + 1], table[i : i + 1], largest_sigma=2) for i in range(3)])
    assert torch.equal(together, alone)


def test_weak_row_changes_nothing(images):
    assert distance(perturb(images, rows(), largest_sigma=2), images) == 0


@pytest.mark.parametrize("channels", [1, 4])
def test_other_channel_counts(channels):
    image = torch.randint(0, 256, (3, channels, 32, 32), dtype=torch.uint8)
    strong = rows(brightness=1.2, contrast=0.8, saturation=1.2, hue=0.1, gray=1.0, blur=1.0, solarize=128.0)
    assert perturb(image, strong, largest_sigma=2).shape == image.shape


def test_images_smaller_than_the_kernel():
    image = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    assert perturb(image, rows(blur=2.0), largest_sigma=2).isfinite().all()


def test_views_are_normalised(images):
    views = Perturbation(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), strengths=("weak", "strong"), largest_sigma=2)(
        images, torch.stack([rows(), rows(brightness=0.5)], 1)
    )
    mean, std = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    torch.testing.assert_close(views[0], (images / 255 - mean) / std)
    torch.testing.assert_close(views[1], (tv.adjust_brightness(images, 0.5) / 255 - mean) / std)


def test_grayscale_is_luminance():
    assert grayscale(torch.tensor([100.0, 50.0, 200.0]).view(1, 3, 1, 1)).item() == int(29.89 + 29.35 + 22.8)


def test_bad_normalisation():
    with pytest.raises(ValueError, match="std > 0"):
        Perturbation(mean=(0.5,), std=(0.0,), strengths=("weak", "weak"), largest_sigma=2)


def test_the_compiled_perturbation_has_no_graph_break():
    """The code that is compiled on GPUs, on a device without values."""
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    views = Perturbation(mean=[0.5] * 3, std=[0.25] * 3, strengths=["weak", "strong"], largest_sigma=2.0).to("meta")
    crop = torch.empty(4, 3, 32, 32, dtype=torch.uint8, device="meta")
    results = torch.compile(views, backend="eager", fullgraph=True)(crop, torch.empty(4, 2, 8, device="meta"))
    assert [view.shape for view in results] == [(4, 3, 32, 32)] * 2
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_the_compiled_perturbation_of_a_cpu_would_break():
    """The test above detects a break: here, the images to blur are selected."""
    views = Perturbation(mean=[0.5] * 3, std=[0.25] * 3, strengths=["strong"], largest_sigma=2.0)
    with pytest.raises(torch._dynamo.exc.TorchDynamoException, match=r"len\(chosen\)"):
        torch.compile(views, backend="eager", fullgraph=True)(
            torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.zeros(4, 1, 8)
        )


def test_each_channel_by_its_own_factors():
    crop = torch.randint(0, 256, (2, 6, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    weak = torch.tensor(WEAK).repeat(2, 1)
    factors = torch.ones(2, 12)
    unchanged = perturb(crop, torch.cat([weak, factors], 1), largest_sigma=2.0)
    assert torch.equal(unchanged, crop.float())
    factors[0, 3], factors[1, 6 + 2] = 0.5, 0.0
    changed = perturb(crop, torch.cat([weak, factors], 1), largest_sigma=2.0)
    expected = crop.float()
    expected[0, 3] = (expected[0, 3] * 0.5).floor()
    expected[1, 2] = expected[1, 2].mean().floor()
    assert torch.equal(changed, expected)


def test_a_view_as_an_image():
    perturbation = Perturbation(mean=[0.5] * 3, std=[0.25] * 3)
    pixels = torch.randint(0, 256, (1, 3, 4, 5), dtype=torch.uint8)
    image = perturbation.as_image(perturbation.normalize(pixels)[0])
    torch.testing.assert_close(image, pixels[0].permute(1, 2, 0) / 255)
    one = Perturbation(mean=[0.5], std=[0.25])
    assert one.as_image(one.normalize(pixels[:, :1])[0]).shape == (4, 5, 3)
