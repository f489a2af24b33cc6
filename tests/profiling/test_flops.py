import pytest
import torch
from conftest import conmim
from pretraining import drawn, make_task
from profiling_config import plan_config
from timm.models.beit import Beit
from torch.profiler import ProfilerActivity, profile

from conmim_lightning.profiling.build import build_task, synthetic_batch
from conmim_lightning.profiling.flops import count_flops, count_parameters, flops_by_shape, step_flops

SMALL = ("backbone=vit_tiny", "task.model.projector.hidden_dim=64", "backbone.depth=3")
NARROW = ("backbone.depth=2", "backbone.embed_dim=48", "backbone.num_heads=2")


@pytest.mark.parametrize(
    "changes",
    [
        [],
        ["task.model.project=masked"],
        ["task.model.checkpointing=true"],
        ["loss.similarity_filter=0.5"],
        ["backbone=vit_b", "backbone.positions=rotary", *NARROW],
        ["backbone=vit_b", "backbone.positions=absolute", *NARROW],
    ],
)
def test_the_shapes_and_torch_agree(tmp_path, changes):
    config = plan_config(tmp_path, *SMALL, *changes)
    task, batch = build_task(config), synthetic_batch(config, 2)
    counted = sum(count_flops(task, batch).values()) / 2
    if not isinstance(task.model.student.encoder.backbone, Beit):  # torch's fused attention: its logits once more
        counted -= 2 * 197**2 * config["backbone"]["embed_dim"] * config["backbone"]["depth"]
    assert counted == pytest.approx(flops_by_shape(task, batch.most_hidden)["step"], rel=1e-6)


def test_the_profiler_agrees(tmp_path):
    config = plan_config(tmp_path, *SMALL)
    task, batch = build_task(config), synthetic_batch(config, 2)
    views = task.perturbation(batch.crop, batch.perturbation)
    with profile(activities=[ProfilerActivity.CPU], with_flops=True) as profiler:
        keys = task.model.teach(views[1])
        task.loss(task.model.student(views[0], batch.mask), keys, batch.mask).backward()
    counted = sum(event.flops for event in profiler.key_averages()) / 2
    assert counted == pytest.approx(flops_by_shape(task, batch.most_hidden)["step"], rel=0.03)  # and additions


@pytest.mark.parametrize(
    ("experiment", "gflop", "million"),
    [("vit_s_pretrain", 67.4, 21.6), ("vit_b_pretrain", 173.5, 85.8), ("vit_l_pretrain", 527, 303.4)],
)
def test_the_recipes(tmp_path, experiment, gflop, million):
    """Worked out by hand: a step of an image at 224 pixels, the projector on every token."""
    with torch.device("meta"):  # shapes alone
        task = build_task(plan_config(tmp_path, f"experiment={experiment}"))
    hidden = round(0.6 * 196)
    assert flops_by_shape(task, hidden)["step"] / 1e9 == pytest.approx(gflop, rel=2e-3)
    assert count_parameters(task.model.student)["encoder"] / 1e6 == pytest.approx(million, rel=5e-3)


def test_phases_are_those_counted_by_hand():
    model = conmim(img_size=32, patch_size=8, embed_dim=16, depth=2)
    views, mask = drawn(model, 2)
    result = step_flops(make_task(model=model), views[0], mask)
    tokens, width, patches = 17, 16, 16
    encoder = 2 * tokens * (24 * width**2 + 4 * tokens * width) + 2 * 192 * width * patches
    shapes = [layer.weight.shape for layer in model.student.projector.layers if isinstance(layer, torch.nn.Linear)]
    projector = sum(2 * tokens * a * b for a, b in shapes)
    assert result["teacher"] == result["student"] == 2 * (encoder + projector)
    pixels = 2 * 2 * 192 * width * patches  # nothing needs the gradient of the pixels
    loss = 2 * 2 * patches**2 * shapes[-1][0]
    assert result["loss"] == loss
    assert result["backward"] == 2 * result["student"] - pixels + loss  # nor that of the keys
