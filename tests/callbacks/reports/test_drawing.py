from itertools import pairwise
from types import SimpleNamespace

import torch
from PIL import Image

from conmim_lightning.callbacks.reports.drawing import as_rgb, class_colors, draw_classes, draw_objects, save_panels

GREY = torch.full((3, 8, 8), 100, dtype=torch.uint8)


def test_neighbouring_classes_have_other_colours():
    colors = class_colors(150)
    assert all(sum(abs(a - b) for a, b in zip(*pair, strict=True)) > 60 for pair in pairwise(colors))
    assert all(0 <= value <= 255 for color in colors for value in color)


def test_class_maps_are_drawn_over_the_grey_image():
    classes = torch.full((8, 8), -1)
    classes[:4] = 1
    drawn = draw_classes(GREY, classes, alpha=1.0)
    assert drawn[:, 0, 0].tolist() == list(class_colors(2)[1])
    assert torch.equal(drawn[:, 4:], GREY[:, 4:]), "pixels without a class keep theirs"
    assert torch.equal(draw_classes(GREY, torch.full((8, 8), -1)), GREY)


def test_objects_have_boxes_and_masks():
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, 2:6, 2:6] = True
    objects = SimpleNamespace(boxes=torch.tensor([[2.0, 2.0, 6.0, 6.0]]), labels=torch.tensor([0]), masks=mask)
    drawn = draw_objects(GREY, objects, ["thing"], [0.5])
    assert drawn.shape == (3, 480, 480), "small images are enlarged so that text is readable"
    assert not torch.equal(drawn, GREY.repeat_interleave(60, 1).repeat_interleave(60, 2))
    nothing = SimpleNamespace(boxes=torch.zeros(0, 4), labels=torch.zeros(0), masks=torch.zeros(0, 8, 8))
    assert torch.equal(draw_objects(GREY, nothing, ["thing"]), GREY)


def test_one_channel_becomes_three():
    assert as_rgb(GREY[:1]).shape == as_rgb(torch.cat([GREY, GREY[:1]])).shape == (3, 8, 8)


def test_panels_stand_side_by_side(tmp_path):
    panels = [("image", GREY), ("prediction", GREY.repeat_interleave(2, 1).repeat_interleave(2, 2))]
    save_panels(panels, tmp_path / "a" / "one.png")
    save_panels(panels, tmp_path / "two.png", {f"class {index}": (index, 0, 0) for index in range(20)})
    with Image.open(tmp_path / "a" / "one.png") as one, Image.open(tmp_path / "two.png") as two:
        assert one.width == two.width == 960
        assert two.height == one.height + 75, "three rows of the legend"
