"""What only a GPU shows; `make gpu` runs these."""

import pytest
import torch
from conftest import conmim, tiny_dense
from hydra import compose, initialize_config_dir
from lightning import Callback, Trainer
from pretraining import batches, make_task
from torch.utils.data import DataLoader

from conmim_lightning.callbacks.divergence import Divergence
from conmim_lightning.config import CONF_DIR
from conmim_lightning.losses.patch_info_nce import PatchInfoNCE
from conmim_lightning.optim.non_finite import NonFiniteError
from conmim_lightning.perturbation.apply import Perturbation, perturb
from conmim_lightning.perturbation.draw import PerturbationDraw
from conmim_lightning.randomness import generator
from conmim_lightning.resolvers import register_resolvers
from conmim_lightning.train import run

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def gpu_is_there():
    assert torch.cuda.is_available(), "these tests need a GPU; deselect them with -m 'not gpu'"


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_training_on_the_gpu(tiny, tmp_path, precision):
    register_resolvers()
    overrides = [f"paths.run_dir={tmp_path}", "logger=csv", "experiment=quickstart", *tiny, "trainer.devices=1"]
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        cfg = compose(
            "train", [*overrides, "schedule.epochs=2", "schedule.warmup_epochs=1", f"trainer.precision={precision}"]
        )
    trainer = run(cfg)
    assert trainer.strategy.root_device.type == "cuda"
    assert trainer.global_step == 12
    assert (tmp_path / "report.png").is_file()


def test_perturbation_is_that_of_the_cpu():
    draw = PerturbationDraw(teacher="strong", blur_probability=0.5)
    rows = torch.stack([draw(generator(0, 0, index))[1] for index in range(64)])
    crop = torch.randint(0, 256, (64, 3, 96, 96), dtype=torch.uint8)
    ours, theirs = perturb(crop.cuda(), rows.cuda(), largest_sigma=2.0).cpu(), perturb(crop, rows, largest_sigma=2.0)
    # Rounding to whole grey levels and the threshold of the solarisation may fall on the other side for a few pixels.
    assert ((ours - theirs).abs() > 2).float().mean() < 1e-3


class NoWaiting(Callback):
    """torch refuses whatever waits for the GPU, from a batch's way to the device to its end, but at logged steps."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step > 1:  # the first makes the optimizer's state and the metrics
            torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("compiled", [False, True])
def test_a_step_does_not_wait_for_the_gpu(tiny, tmp_path, compiled):
    register_resolvers()
    overrides = [f"paths.run_dir={tmp_path}", "logger=none", "experiment=quickstart", *tiny, "trainer.devices=1"]
    overrides += ["trainer.log_every_n_steps=1000", "task.monitor_every=1000", f"task.compile={compiled}"]
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        cfg = compose("train", [*overrides, "schedule.epochs=2", "schedule.warmup_epochs=1"])
    cfg.callbacks["no_waiting"] = {"_target_": "test_gpu.NoWaiting"}
    assert run(cfg).global_step == 12


def test_the_perturbation_does_not_wait_for_the_gpu():
    draw = PerturbationDraw(teacher="strong")
    rows = torch.stack([draw(generator(0, 0, index)) for index in range(8)]).cuda()
    crop = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8).cuda()
    views = Perturbation(mean=[0.5] * 3, std=[0.25] * 3, strengths=["weak", "strong"], largest_sigma=2.0).cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        views(crop, rows)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_bad_batch_stops_the_run_with_its_samples(tmp_path):
    trainer = Trainer(
        max_epochs=1, gradient_clip_val=1.0, accelerator="gpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[Divergence(str(tmp_path))],
    )  # fmt: skip
    with pytest.raises(NonFiniteError, match=r"samples \[8, 9, 10, 11\]"), pytest.warns(UserWarning, match="wrote"):
        trainer.fit(make_task(), DataLoader(list(batches(bad=2)), batch_size=None))
    kept = torch.load(tmp_path / "diverged_step2_rank0.pt", weights_only=True)
    assert kept["batches"][0]["index"].tolist() == [8, 9, 10, 11]
    assert all(value.isfinite().all() for name, value in kept["model"].items() if "running" not in name)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_compiled_equals_eager(precision):
    torch.manual_seed(0)
    model = conmim(embed_dim=64, num_heads=4, img_size=64).cuda()
    view, mask = torch.randn(8, 3, 64, 64, device="cuda"), torch.rand(8, 8, 8, device="cuda") < 0.5
    losses, gradients = [], []
    for student in (model.student, torch.compile(model.student)):
        model.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=precision is torch.bfloat16):
            loss = PatchInfoNCE()(student(view, mask), model.teach(view), mask)
        loss.backward()
        losses.append(loss.item())
        gradients.append(model.student.encoder.mask_token.grad.clone())
    tolerance = 1e-4 if precision is torch.float32 else 3e-2
    assert losses[1] == pytest.approx(losses[0], rel=tolerance)
    assert torch.nn.functional.cosine_similarity(*(g.flatten() for g in gradients), dim=0) > 1 - tolerance


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("kind", ["segmentation", "coco"])
def test_dense_tasks_on_the_gpu(scenes_root, tmp_path, kind, precision):
    register_resolvers()
    task = "detection" if kind == "coco" else "segmentation"
    overrides = [f"experiment=quickstart_{task}_from_scratch", *tiny_dense(scenes_root, kind), "trainer.devices=1"]
    length = ["schedule.epochs=1"] if kind == "coco" else ["schedule.steps=6", "trainer.val_check_interval=6"]
    length += ["schedule.warmup_epochs=0.1"] if kind == "coco" else ["schedule.warmup_steps=1"]
    with initialize_config_dir(CONF_DIR, version_base="1.3"):
        own = [f"paths.run_dir={tmp_path}", "logger=csv", f"trainer.precision={precision}", "data.batch_size=4"]
        trainer = run(compose("train", [*overrides, *length, *own]))
    assert trainer.strategy.root_device.type == "cuda"
    assert list((tmp_path / "pictures").iterdir())
