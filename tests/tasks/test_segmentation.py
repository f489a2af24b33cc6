"""Fine-tuning for segmentation, without a Trainer; with one: ``integration/test_dense.py``."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from conmim_lightning.batches import SegmentationBatch
from conmim_lightning.models.backbones import vit
from conmim_lightning.models.segmentation_heads import LinearHead, UperHead
from conmim_lightning.models.segmenter import Segmenter
from conmim_lightning.models.sliding_window import SlidingWindowInference
from conmim_lightning.optim.recipe import Schedule
from conmim_lightning.tasks.segmentation import SegmentationTask

UPERNET = partial(UperHead, channels=8)


def make_task(*, head=UPERNET, auxiliary_map=2, **changes):
    torch.manual_seed(0)
    backbone = vit(img_size=32, patch_size=8, embed_dim=16, depth=4, num_heads=2, shared_rel_pos_bias=False)
    model = Segmenter(
        backbone=backbone,
        num_classes=5,
        size=32,
        out_indices=[0, 1, 2, 3],
        head=head,
        auxiliary_map=auxiliary_map,
    )
    arguments = {
        "model": model,
        "normalize": nn.Identity(),
        "inference": SlidingWindowInference(size=32),
        "num_classes": 5,
        "optimizer": partial(torch.optim.AdamW, lr=0.1),
        "schedule": Schedule(steps=10),
        "batch_size": 2,
    }
    task = SegmentationTask(**(arguments | changes))
    task.log = lambda *args, **others: None  # no Trainer
    return task


def batch(label):
    return SegmentationBatch(torch.randn(2, 3, 32, 32), label, torch.arange(2), ["", ""])


def test_the_loss_is_divided_by_the_number_of_all_pixels():
    """The sum over labelled pixels, as in mmsegmentation 0.x; also of the auxiliary head, with its weight."""
    task = make_task(auxiliary_weight=0.3).eval()
    label = torch.randint(0, 5, (2, 32, 32), dtype=torch.int16)
    label[:, :8] = -1
    data = batch(label)
    task.model.training = True  # the auxiliary head is only for training; dropout and batch norm stay as they are
    output, labelled = task.model(data.image), label.long().flatten() >= 0
    losses = []
    for scores in (output.scores, output.auxiliary):
        by_pixel = scores.permute(0, 2, 3, 1).flatten(0, 2)[labelled]
        losses.append(F.cross_entropy(by_pixel, label.long().flatten()[labelled]) * 3 / 4)
    torch.testing.assert_close(task.training_step(data, 0), losses[0] + 0.3 * losses[1])


def test_crops_without_a_label_have_no_loss():
    task = make_task(head=LinearHead, auxiliary_map=None)
    loss = task.training_step(batch(torch.full((2, 32, 32), -1, dtype=torch.int16)), 0)
    assert loss == 0


def test_predictions_have_the_images_sizes():
    task = make_task().eval()
    images = [torch.randn(3, 32, 48), torch.randn(3, 40, 40)]
    labels = [torch.zeros(image.shape[1:], dtype=torch.int16) for image in images]
    data = SegmentationBatch(images, labels, torch.arange(2), ["", ""])
    with torch.no_grad():
        outputs = task.predict_step(data, 0)
        evaluated = task.evaluate(data, task.metrics["val"])
    assert [tuple(prediction.shape) for prediction in outputs["predictions"]] == [(32, 48), (40, 40)]
    assert all(torch.equal(*pair) for pair in zip(outputs["predictions"], evaluated["predictions"], strict=True))
    probabilities = task(images[0][None])
    assert torch.equal(probabilities.argmax(1)[0].to(torch.int16), outputs["predictions"][0])
    torch.testing.assert_close(probabilities.sum(1), torch.ones(1, 32, 48))


def test_heads_learn_fastest():
    groups = make_task(layer_decay=0.5).param_groups()
    scales = [group.get("lr_scale", 1.0) for group in groups]
    assert max(scales) == 1.0
    assert min(scales) == pytest.approx(0.5**5), "embeddings, below four blocks"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inference": SlidingWindowInference(size=36)}, "multiple of the patch size 8, got 36"),
        ({"num_classes": 4}, "the model has 5 classes, the data 4"),
        ({"auxiliary_weight": -0.1}, "auxiliary_weight must be at least 0, got -0.1"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        make_task(**changes)


def test_data_that_does_not_fit():
    task = make_task()
    task.check_shapes((3, 32, 32), (5,))
    with pytest.raises(ValueError, match=r"\(3, 64, 64\)"):
        task.check_shapes((3, 64, 64), (5,))
