"""Fine-tuning for detection, without a Trainer; with one: ``integration/test_dense.py``."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from conmim_lightning.batches import DetectionBatch, Objects
from conmim_lightning.models.backbones import vit
from conmim_lightning.models.detector import Detector
from conmim_lightning.models.feature_pyramids import SimpleFeaturePyramid
from conmim_lightning.optim.recipe import Schedule
from conmim_lightning.tasks.detection import DetectionTask


def make_task(*, masks=True, **changes):
    torch.manual_seed(0)
    backbone = vit(
        img_size=32, patch_size=8, embed_dim=16, depth=4, num_heads=2, shared_rel_pos_bias=False, init_values=0.5
    )
    model = Detector(
        backbone=backbone, num_classes=3, size=64, out_indices=[3], global_attn_blocks=[1, 3], masks=masks,
        pyramid=partial(SimpleFeaturePyramid, out_channels=16), anchor_sizes=[8, 12, 16, 24, 32], rpn_top_n=20,
        box_batch_size_per_image=8, head_channels=16, box_head_dim=16, score_threshold=0.0,
    )  # fmt: skip
    arguments = {
        "model": model,
        "normalize": nn.Identity(),
        "num_classes": 3,
        "optimizer": partial(torch.optim.AdamW, lr=0.1),
        "schedule": Schedule(epochs=1),
        "batch_size": 2,
    }
    return DetectionTask(**(arguments | changes))


def batch():
    boxes = torch.tensor([[4.0, 4.0, 30.0, 40.0]])
    masks = torch.zeros(1, 64, 64, dtype=torch.bool)
    masks[:, 4:40, 4:30] = True
    objects = Objects(boxes, torch.tensor([1]), masks, torch.zeros(1, dtype=torch.bool), torch.tensor([26.0 * 36]))
    size = torch.tensor([[64, 64], [64, 48]])
    return DetectionBatch(torch.randn(2, 3, 64, 64), size, 2 * size, [objects] * 2, torch.arange(2), ["", ""])


def test_the_loss_is_the_sum_of_the_logged_ones():
    task, logged = make_task(), {}
    task.log = lambda name, value: logged.update({name: value})
    task.log_dict = logged.update
    loss = task.training_step(batch(), 0)
    own = {name: value for name, value in logged.items() if name != "train/loss"}
    assert set(own) == {f"train/loss_{name}" for name in ("objectness", "rpn_box_reg", "classifier", "box_reg", "mask")}
    torch.testing.assert_close(sum(own.values()), loss.detach())
    assert logged["train/loss"] is loss


def test_detections_are_in_the_files_pixels():
    task, data = make_task().eval(), batch()
    with torch.no_grad():
        outputs = task.predict_step(data, 0)
        task.evaluate(data, task.metrics["val"])
    assert outputs["index"].tolist() == [0, 1]
    for detections, (height, width) in zip(outputs["detections"], data.original.tolist(), strict=True):
        assert len(detections.boxes), "the threshold is 0"
        assert detections.masks.shape[1:] == (height, width)
        assert (detections.boxes[:, 2] <= width).all()
        assert (detections.boxes[:, 3] <= height).all()
    assert "box_ap" in task.metrics["val"].compute()


def test_tables_have_no_weight_decay():
    table = "relative_position_bias_table"
    assert not [name for name in decayed(make_task()) if name.endswith(table)]
    assert [name for name in decayed(make_task(no_weight_decay=())) if name.endswith(table)]


def decayed(task):
    """Names of the parameters with weight decay."""
    names = {id(value): name for name, value in task.named_parameters()}
    groups = [group for group in task.param_groups() if group.get("weight_decay") != 0]
    return [names[id(value)] for group in groups for value in group["params"]]


def test_category_ids_travel_in_checkpoints():
    task, checkpoint = make_task(), {}
    task.trainer = SimpleNamespace(datamodule=SimpleNamespace(category_ids=[1, 7, 9], classes=["a", "b", "c"]))
    task.setup("test")
    task.on_save_checkpoint(checkpoint)
    other = make_task()
    other.on_load_checkpoint(checkpoint | {"state_dict": task.state_dict()})
    assert (other.category_ids, other.classes) == ([1, 7, 9], ["a", "b", "c"])


def test_another_number_of_classes():
    with pytest.raises(ValueError, match="the model has 3 classes, the data 80"):
        make_task(num_classes=80)
    with pytest.raises(ValueError, match=r"80"):
        make_task().check_shapes((3, 64, 64), (80,))
