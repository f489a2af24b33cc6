import pytest
import torch
from conftest import conmim
from pretraining import drawn, make_task
from profiling_config import plan_config
from timm.models.beit import Beit
from torch.profiler import ProfilerActivity, profile

from conmim_lightning.profiling.build import build_task, synthetic_batch
from conmim_lightning.profiling.flops import count_flops, count_parameters, step_flops

SMALL = ("backbone=vit_tiny", "task.model.projector.hidden_dim=64", "backbone.depth=3")
NARROW = ("backbone.depth=2", "backbone.embed_dim=48", "backbone.num_heads=2")


def step_by_shape(task, hidden: int) -> float:
    """FLOP of a step per image, from the shapes of the weights alone.

    With T tokens of width D, each linear weight takes 2 T times its entries and each block's attention 4 T^2 D; the
    backward pass takes twice the forward pass, except for the gradient of the pixels, which nothing needs.
    """
    student = task.model.student
    backbone = student.encoder.backbone
    patches = backbone.patch_embed.num_patches
    tokens = patches + student.encoder.num_prefix_tokens
    pixels = 2 * patches * backbone.patch_embed.proj.weight.numel()
    attention = 4 * tokens**2 * backbone.embed_dim * len(backbone.blocks)
    encoder = pixels + attention + 2 * tokens * linear_entries(backbone.blocks)
    queries, keys = (tokens, tokens) if student.project == "all" else (hidden, patches)
    projector, teacher_projector = (2 * count * linear_entries(student.projector) for count in (queries, keys))
    width = [layer for layer in student.projector.modules() if isinstance(layer, torch.nn.Linear)][-1].out_features
    loss = 2 * hidden * patches * width * (2 if task.loss.similarity_filter is not None else 1)
    backward = 2 * (encoder + projector) - pixels + 2 * hidden * patches * width
    recomputed = encoder - pixels if student.encoder.checkpointing else 0
    return 2 * encoder + projector + teacher_projector + loss + backward + recomputed


def linear_entries(module) -> int:
    """Entries of all weights of linear layers."""
    return sum(layer.weight.numel() for layer in module.modules() if isinstance(layer, torch.nn.Linear))


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
    assert counted == pytest.approx(step_by_shape(task, batch.max_hidden), rel=1e-6)


def test_the_profiler_agrees(tmp_path):
    config = plan_config(tmp_path, *SMALL)
    task, batch = build_task(config), synthetic_batch(config, 2)
    views = task.perturbation(batch.crop, batch.perturbation)
    with profile(activities=[ProfilerActivity.CPU], with_flops=True, acc_events=True) as profiler:
        keys = task.model.teach(views[1])
        task.loss(task.model.student(views[0], batch.mask), keys, batch.mask).backward()
    counted = sum(event.flops for event in profiler.key_averages()) / 2
    assert counted == pytest.approx(step_by_shape(task, batch.max_hidden), rel=0.03)  # and additions


@pytest.mark.parametrize(
    ("experiment", "gflop", "million"),
    [("vit_s_pretrain", 67.4, 21.6), ("vit_b_pretrain", 173.5, 85.8), ("vit_l_pretrain", 527, 303.4)],
)
def test_the_recipes(tmp_path, experiment, gflop, million):
    """Worked out by hand: a step of an image at 224 pixels, the projector on every token."""
    with torch.device("meta"):  # shapes alone
        task = build_task(plan_config(tmp_path, f"experiment={experiment}"))
    hidden = round(0.6 * 196)
    assert step_by_shape(task, hidden) / 1e9 == pytest.approx(gflop, rel=2e-3)
    assert count_parameters(task.model.student)["encoder"] / 1e6 == pytest.approx(million, rel=5e-3)


def test_phases_are_those_counted_by_hand():
    model = conmim(img_size=32, patch_size=8, embed_dim=16, depth=2)
    views, mask = drawn(model, 2)
    result = step_flops(make_task(model=model), views[0], mask)
    tokens, width, patches = 17, 16, 16
    encoder = 2 * tokens * (24 * width**2 + 4 * tokens * width) + 2 * 192 * width * patches
    shapes = [layer.weight.shape for layer in model.student.projector.layers if isinstance(layer, torch.nn.Linear)]
    projector = sum(2 * tokens * a * b for a, b in shapes)
    assert (result["encoder"], result["projector"]) == (2 * encoder, 2 * projector)
    assert result["teacher"] == 2 * (encoder + projector)
    pixels = 2 * 2 * 192 * width * patches  # nothing needs the gradient of the pixels
    hidden = int(mask.flatten(1).sum(1).max())
    loss = 2 * 2 * hidden * patches * shapes[-1][0]
    assert result["loss"] == loss
    assert result["backward"] == 2 * result["teacher"] - pixels + loss  # nor that of the keys
