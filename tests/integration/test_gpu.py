"""Tests that need a GPU; `make gpu` runs them."""

import copy
from functools import partial

import pytest
import torch
import torch._dynamo.utils
from conftest import conmim, tiny_dense
from hydra import compose, initialize_config_dir
from pretraining import drawn, fit, flat, make_batches, make_task
from synchronization import forbid_synchronization

from conmim_lightning.callbacks.non_finite_dump import NonFiniteDump
from conmim_lightning.config.check import CONF_DIR
from conmim_lightning.config.resolvers import register_resolvers
from conmim_lightning.optim.non_finite import NonFiniteError
from conmim_lightning.perturbation.apply import Perturbation, perturb
from conmim_lightning.perturbation.draw import PerturbationDraw
from conmim_lightning.profiling.step.reference import ReferenceStep
from conmim_lightning.profiling.step.train_step import TrainStep
from conmim_lightning.rng import generator
from conmim_lightning.train import run

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def require_gpu():
    assert torch.cuda.is_available(), "these tests need a GPU; deselect them with -m 'not gpu'"


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_training_on_the_gpu(tiny, tmp_path, precision):
    register_resolvers()
    overrides = [f"paths.run_dir={tmp_path}", "logger=csv", "experiment=quickstart", *tiny, "trainer.devices=1"]
    overrides += [f"optimizer.fused={precision != '16-mixed'}"]
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        cfg = compose(
            "train", [*overrides, "schedule.epochs=2", "schedule.warmup_epochs=1", f"trainer.precision={precision}"]
        )
    trainer = run(cfg)
    assert trainer.strategy.root_device.type == "cuda"
    assert trainer.global_step == 12
    assert (tmp_path / "report.png").is_file()


def test_the_perturbation_equals_that_of_the_cpu():
    draw = PerturbationDraw(teacher="strong", blur_probability=0.5)
    rows = torch.stack([draw(generator(0, 0, index))[1] for index in range(64)])
    crop = torch.randint(0, 256, (64, 3, 96, 96), dtype=torch.uint8)
    on_gpu, on_cpu = perturb(crop.cuda(), rows.cuda(), largest_sigma=2.0).cpu(), perturb(crop, rows, largest_sigma=2.0)
    # Rounding to whole grey levels and the threshold of the solarisation may fall on the other side for a few pixels.
    assert ((on_gpu - on_cpu).abs() > 2).float().mean() < 1e-3


@pytest.fixture(autouse=True)
def _allow_synchronization():
    yield
    forbid_synchronization(False)


@pytest.mark.parametrize(("compiled", "precision"), [(False, "32-true"), (False, "bf16-mixed"), (True, "bf16-mixed")])
def test_a_step_does_not_wait_for_the_gpu(tiny, tmp_path, compiled, precision):
    register_resolvers()
    overrides = [f"paths.run_dir={tmp_path}", "logger=none", "experiment=quickstart", *tiny, "trainer.devices=1"]
    overrides += ["trainer.log_every_n_steps=1000", "task.log_every_n_steps=1000", f"task.compile={compiled}"]
    overrides += [
        f"trainer.precision={precision}",
        "+callbacks.no_synchronization._target_=synchronization.NoSynchronization",
    ]
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        cfg = compose("train", [*overrides, "schedule.epochs=2", "schedule.warmup_epochs=1"])
    assert run(cfg).global_step == 12


def test_the_perturbation_does_not_wait_for_the_gpu():
    draw = PerturbationDraw(teacher="strong")
    rows = torch.stack([draw(generator(0, 0, index)) for index in range(8)]).cuda()
    crop = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8).cuda()
    views = Perturbation(mean=[0.5] * 3, std=[0.25] * 3, strengths=["weak", "strong"], largest_sigma=2.0).cuda()
    views(crop, rows)  # fills its caches
    forbid_synchronization(True)
    views(crop, rows)


def test_a_bad_batch_stops_the_run_with_its_samples(tmp_path):
    dump = NonFiniteDump(str(tmp_path))
    with pytest.raises(NonFiniteError, match=r"samples \[8, 9, 10, 11\]"), pytest.warns(UserWarning, match="wrote"):
        fit(make_task(), make_batches(bad=2), dump, accelerator="gpu", devices=1)
    content = torch.load(tmp_path / "non_finite_step2_rank0.pt", weights_only=True)
    assert content["batches"][0]["index"].tolist() == [8, 9, 10, 11]
    assert all(value.isfinite().all() for name, value in content["model"].items() if "running" not in name)


SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9)  # AdamW would turn rounding into steps


@pytest.mark.parametrize(
    ("precision", "tolerance", "table_tolerance"),
    # the table's gradient sums numbers that cancel: on a CPU, bfloat16 changes its update by up to 27 %
    [("32-true", 1e-3, 2e-3), ("bf16-mixed", 5e-2, 0.4)],
)
# 50 and 65 tokens: rows of the bias in 56 and 72
@pytest.mark.parametrize(
    ("img_size", "implementation", "compiled"),
    [(56, "sdpa", False), (64, "sdpa", False), (56, "sdpa", True), (56, "flex", False)],
)
def test_three_steps_are_the_official_ones(img_size, precision, tolerance, table_tolerance, implementation, compiled):
    """With both implementations of GPUs; all weights have an effect, those of the position table too."""
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    model = conmim(img_size=img_size, embed_dim=64, num_heads=4, attn_implementation=implementation)
    views, mask = drawn(model, 8)
    model, views, mask = model.cuda(), [view.cuda() for view in views], mask.cuda()
    reference, start = copy.deepcopy(model), copy.deepcopy(model)
    task = make_task(model=model, optimizer=partial(SGD, fused=True, weight_decay=0.0), max_grad_norm=1.0).cuda()
    ours = TrainStep(task, batch_size=8, precision=precision, compiled=compiled)
    reference_step = ReferenceStep(
        reference, SGD(reference.student.parameters()), temperature=0.1, max_grad_norm=1.0, precision=precision
    )
    for _ in range(3):
        assert ours(views, mask, 0.9).item() == pytest.approx(reference_step(views, mask, 0.9), rel=tolerance)
    assert not compiled or not torch._dynamo.utils.counters["graph_break"]
    moves = [flat(trained) - flat(start) for trained in (model, reference)]
    assert (moves[0] - moves[1]).norm() <= tolerance * moves[1].norm()
    tables = [
        one.student.encoder.backbone.rel_pos_bias.relative_position_bias_table for one in (model, reference, start)
    ]
    learned = (tables[1] - tables[2]).norm()
    assert learned > 0
    assert (tables[0] - tables[1]).norm() <= table_tolerance * learned


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("kind", ["segmentation", "coco"])
def test_dense_tasks_on_the_gpu(scenes_root, tmp_path, kind, precision):
    register_resolvers()
    if kind == "coco":
        pytest.importorskip("faster_coco_eval")  # of the extra [coco]
    task = "detection" if kind == "coco" else "segmentation"
    overrides = [f"experiment=quickstart_{task}", *tiny_dense(scenes_root, kind), "trainer.devices=1"]
    length = ["schedule.epochs=1"] if kind == "coco" else ["schedule.steps=6", "trainer.val_check_interval=6"]
    length += ["schedule.warmup_epochs=0.1"] if kind == "coco" else ["schedule.warmup_steps=1"]
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        own = [f"paths.run_dir={tmp_path}", "logger=csv", f"trainer.precision={precision}", "data.batch_size=4"]
        trainer = run(compose("train", [*overrides, *length, *own]))
    assert trainer.strategy.root_device.type == "cuda"
    assert list((tmp_path / "pictures").iterdir())
