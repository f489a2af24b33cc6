"""The detector on torchvision's modules."""

from functools import partial

import pytest
import torch
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from conmim_lightning.batches import Objects
from conmim_lightning.models.backbones import vit
from conmim_lightning.models.detector import Detector, _to_file
from conmim_lightning.models.feature_pyramids import MIMDetFPN, SimpleFeaturePyramid


def backbone(width: int = 16):
    return vit(
        img_size=32, patch_size=8, embed_dim=width, depth=4, num_heads=2, shared_rel_pos_bias=False, init_values=0.5
    )


def detector(**changes) -> Detector:
    torch.manual_seed(0)
    settings = {
        "backbone": backbone(), "num_classes": 3, "size": 64, "out_indices": [3], "global_attn_blocks": [1, 3],
        "pyramid": partial(SimpleFeaturePyramid, out_channels=16), "anchor_sizes": [8, 12, 16, 24, 32], "rpn_top_n": 20,
        "box_batch_size_per_image": 8, "head_channels": 16, "box_head_dim": 16, "score_threshold": 0.0,
    }  # fmt: skip
    return Detector(**(settings | changes))


def objects(count: int = 2) -> Objects:
    boxes = torch.tensor([[4.0, 4.0, 30.0, 40.0], [20.0, 10.0, 60.0, 50.0]])[:count]
    masks = torch.zeros(count, 64, 64, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = True
    crowd, area = torch.zeros(count, dtype=torch.bool), (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return Objects(boxes, torch.tensor([0, 2])[:count], masks, crowd, area)


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("masks", [True, False])
def test_losses_reach_every_parameter(masks, norm):
    model = detector(masks=masks, norm=norm)
    losses = model.losses(torch.randn(2, 3, 64, 64), [objects(), objects(1)])
    expected = {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"}
    assert set(losses) == expected | ({"loss_mask"} if masks else set())
    sum(losses.values()).backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


def test_images_without_objects_have_losses():
    model = detector()
    losses = model.losses(torch.randn(2, 3, 64, 64), [objects(0), objects(0)])
    assert all(torch.isfinite(value) for value in losses.values())


def test_the_pyramid_of_mimdet():
    model = detector(pyramid=partial(MIMDetFPN, out_channels=16), out_indices=[0, 1, 2, 3])
    assert model.losses(torch.randn(1, 3, 64, 64), [objects()])["loss_mask"] > 0
    with pytest.raises(ValueError, match=r"needs 4 maps, but out_indices=\[3\]"):
        detector(pyramid=MIMDetFPN)


def test_detections_are_in_coordinates_of_the_file():
    model = detector().eval()
    size, original = torch.tensor([[64, 48], [32, 64]]), torch.tensor([[128, 96], [20, 40]])
    with torch.no_grad():
        detections = model(torch.randn(2, 3, 64, 64), size, original)
    for one, (height, width) in zip(detections, original.tolist(), strict=True):
        assert len(one.boxes) > 0
        assert one.masks.shape == (len(one.boxes), height, width)
        assert (one.boxes[:, 0::2] <= width).all()
        assert (one.boxes[:, 1::2] <= height).all()
        assert (one.scores.diff() <= 0).all()
        assert set(one.labels.tolist()) <= {0, 1, 2}


def test_boxes_and_masks_are_scaled_to_the_file():
    """A box of 10 x 20 in an image that was halved, with a mask that fills it."""
    raw = {
        "boxes": torch.tensor([[10.0, 5.0, 20.0, 25.0], [30.0, 40.0, 60.0, 60.0]]),
        "scores": torch.tensor([0.9, 0.8]),
        "labels": torch.tensor([2, 1]),
        "masks": torch.ones(2, 1, 28, 28),
    }
    detections = _to_file(raw, [32, 64], [64, 128])  # the second box lies beyond the image's own 32 rows
    assert detections.boxes.tolist() == [[20.0, 10.0, 40.0, 50.0]]
    assert detections.labels.tolist() == [1]
    assert detections.masks[0, 10:50, 20:40].float().mean() > 0.97
    assert detections.masks.sum() < 41 * 21 * 1.05


def test_boxes_keep_their_precision_in_bfloat16():
    """In bfloat16 a coordinate of 1,000 has steps of 4 pixels; ours equal float32's, except for the features."""
    model = detector().eval()
    images, size = torch.randn(1, 3, 64, 64), torch.tensor([[64, 64]])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        detections = model(images, size, size * 100)[0]
    assert detections.boxes.dtype == detections.scores.dtype == torch.float32
    fraction = detections.boxes % 1
    assert (fraction > 0).float().mean() > 0.5  # up to 6,400 pixels; bfloat16 has whole numbers only from 128 on
    with torch.no_grad():
        exact = model(images, size, size * 100)[0]
    assert (box_iou(exact.boxes, detections.boxes).amax(1) > 0.8).float().mean() > 0.8


def test_heads_are_those_of_the_recipe():
    """Counted by hand: MIMDet's and ViTDet's heads at 256 channels and 80 classes."""
    model = detector(
        num_classes=80, head_channels=256, box_head_dim=1024, pyramid=partial(SimpleFeaturePyramid, out_channels=256)
    )
    net: MaskRCNN = model.net

    def count(module):
        return sum(parameter.numel() for parameter in module.parameters())

    convolution = 256 * 256 * 9
    assert count(net.rpn) == 2 * (convolution + 256) + 256 * 3 + 3 + 256 * 12 + 12
    assert count(net.roi_heads.box_head) == 4 * (convolution + 512) + 256 * 49 * 1024 + 1024
    assert count(net.roi_heads.box_predictor) == 1025 * 81 + 1025 * 324
    assert count(net.roi_heads.mask_head) == 4 * (convolution + 512)
    assert count(net.roi_heads.mask_predictor) == 256 * 256 * 4 + 256 + 257 * 81


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": "group"}, "one of .*layer.*batch.*, got 'group'"),
        ({"anchor_sizes": [8, 16]}, r"five sides in pixels, one per level, got \[8, 16\]"),
        ({"rpn_top_n": 0}, "'rpn_top_n': 0"),
        ({"score_threshold": 1.0}, "score_threshold 1.0"),
    ],
)
def test_bad_numbers(changes, message):
    with pytest.raises(ValueError, match=message):
        detector(**changes)


def test_anchors_are_those_of_float32_under_autocast():
    """At 1,024 pixels bfloat16 has steps of 4."""
    generator = detector().net.rpn.anchor_generator
    maps = [torch.zeros(1, 16, side, side) for side in (256, 128, 64, 32, 16)]
    square = ImageList(torch.zeros(1, 3, 1024, 1024), [(1024, 1024)])
    exact = generator(square, maps)[0]
    anchors = generator(square, [feature_map.bfloat16() for feature_map in maps])[0]
    assert anchors.dtype == torch.float32
    assert torch.equal(anchors, exact)
    assert exact[-1, 2] - exact[-1, 0] == 22  # a side of 32, twice as high as wide: 32 / sqrt(2), rounded


def test_many_masks_are_pasted_in_chunks():
    count = 19
    raw = {
        "boxes": torch.rand(count, 4).mul(20).add(torch.tensor([0.0, 0.0, 25.0, 25.0])),
        "scores": torch.ones(count),
        "labels": torch.ones(count, dtype=torch.long),
        "masks": torch.rand(count, 1, 28, 28),
    }
    detections = _to_file(raw, [48, 48], [48, 48])
    for index in range(count):
        alone = _to_file({name: value[index : index + 1] for name, value in raw.items()}, [48, 48], [48, 48])
        assert torch.equal(alone.masks[0], detections.masks[index])
