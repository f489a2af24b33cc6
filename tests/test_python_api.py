"""The lines of README that use the package without Hydra."""

import re
from pathlib import Path

import pytest
import torch
from conftest import beit
from lightning import Trainer
from PIL import Image
from sklearn.datasets import load_sample_image

import conmim_lightning

README = Path(__file__).parents[1] / "README.md"


def snippets() -> list[str]:
    """The Python lines of README: for use, and for training."""
    loading, training = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    return [loading, training]


def test_every_name_is_importable():
    for name in conmim_lightning.__all__:
        assert callable(getattr(conmim_lightning, name))
    with pytest.raises(AttributeError, match="has no attribute 'ConMIMM'"):
        conmim_lightning.ConMIMM  # noqa: B018


def test_the_lines_of_readme_train(scenes_root, tmp_path, monkeypatch):
    """At the size of the README, but for two steps on few images."""
    lines = snippets()[1]
    assert len([line for line in lines.splitlines() if line.strip()]) <= 15
    monkeypatch.chdir(tmp_path)
    for old, new in {
        '"/my/images"': f'"{scenes_root}/folders/train"',
        "batch_size=64": "batch_size=4, num_workers=0",
        "max_epochs=300": 'max_epochs=300, max_steps=2, accelerator="cpu", logger=False, enable_progress_bar=False',
        "bf16-mixed": "32-true",
    }.items():
        assert lines.count(old) == 1, old
        lines = lines.replace(old, new)
    names: dict = {}
    exec(compile(lines, "README.md", "exec"), names)
    assert names["trainer"].global_step == 2
    assert names["tokens"].shape == (1, 196, 384)
    assert (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_the_lines_of_readme_load(labelled_runs, tmp_path, monkeypatch):
    """Of small models."""
    folder, _ = labelled_runs
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(load_sample_image("china.jpg")).save(name)
    lines = (
        snippets()[0].replace('"runs/mine"', f'"{folder}/pretrained"').replace('"runs/tuned"', f'"{folder}/finetuned"')
    )
    names: dict = {}
    exec(compile(lines, "README.md", "exec"), names)
    assert names["vectors"].shape == (2, 16)


def test_the_defaults_are_those_published_for_vit_l():
    """As in ``experiment=vit_l_pretrain``, see test_recipes; but for the number of epochs."""
    task = conmim_lightning.PretrainTask(conmim_lightning.ConMIM(beit()))
    assert task.loss.temperature == 0.1
    assert task.model.student.projector.get_submodule("layers")[0].out_features == 4096
    assert task.optimizer_factory.keywords["lr"] == 7.5e-4
    assert (task.schedule.base_batch_size, task.schedule.min_lr) == (2048, 1e-5)
    assert (task.schedule.warmup, task.schedule.max_grad_norm, task.schedule.teacher_momentum_start) == (10, 1.0, 0.996)


def test_a_task_trains_on_a_plain_folder_without_a_data_module(scenes_root):
    data = conmim_lightning.PretrainDataModule(f"{scenes_root}/folders/train", batch_size=4, num_workers=0)
    data.setup()
    model = conmim_lightning.ConMIM(conmim_lightning.vit(img_size=224, embed_dim=16, depth=1, num_heads=2))
    task = conmim_lightning.PretrainTask(model, batch_size=4)
    trainer = Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(task, data.train_dataloader())
    assert trainer.global_step == 1
    assert torch.isfinite(trainer.callback_metrics["train/loss"])
