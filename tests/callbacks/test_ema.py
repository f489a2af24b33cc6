import pytest
import torch
from downstream_runs import configure, metrics_of, state
from lightning import Callback, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from conmim_lightning.callbacks.ema import WarmupEMA
from conmim_lightning.evaluate import run as evaluate
from conmim_lightning.train import run as train
from conmim_lightning.weights.checkpoint import read_checkpoint


class Regression(LightningModule):
    """One weight that follows its data."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        return (self.layer(batch) - 3 * batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_the_moving_average_by_hand():
    """Against the recursion on the trained weights, with a decay that grows with the updates."""
    trained = []

    class Record(Callback):
        def on_train_batch_end(self, trainer, task, outputs, batch, batch_idx):
            trained.append(task.layer.weight.detach().clone())

    task = Regression()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Record(), WarmupEMA(decay=0.25)],
    )
    trainer.fit(task, DataLoader(torch.randn(16, 1), batch_size=4))
    expected = trained[0]  # the first update copies
    for updates, weight in enumerate(trained[1:], start=1):
        decay = min(0.25, (1 + updates) / (10 + updates))
        expected = decay * expected + (1 - decay) * weight
    torch.testing.assert_close(task.layer.weight.detach(), expected)
    assert not torch.equal(expected, trained[-1])


def test_a_decay_out_of_range():
    with pytest.raises(ValueError, match="decay of the average must lie in"):
        WarmupEMA(decay=1.0)


def test_an_average_is_saved_beside_the_weights(labelled_runs, tmp_path):
    folder, changes = labelled_runs
    average = ["callbacks=classification_ema", "callbacks.ema.decay=0.5"]
    train(configure("train", tmp_path, "experiment=quickstart_finetune", *changes, *average))
    saved, trained = read_checkpoint(tmp_path), state(folder / "finetuned")
    for name, value in trained.items():
        torch.testing.assert_close(saved["current_model_state"][name], value)
    assert not torch.equal(saved["state_dict"]["model.head.weight"], trained["model.head.weight"])
    metrics = evaluate(configure("evaluate", tmp_path / "e", f"checkpoint={tmp_path}"))
    tested = metrics_of(tmp_path, "test/")
    assert metrics == pytest.approx(tested, rel=1e-5)
