import torch
from lightning import LightningModule, Trainer
from torch.utils.data import DataLoader

from conmim_lightning.callbacks.save_after_test import SaveAfterTest


class Task(LightningModule):
    def __init__(self):
        super().__init__()
        self.register_buffer("fitted", torch.tensor(0))

    def on_test_start(self):
        self.fitted.fill_(7)

    def test_step(self, batch, batch_idx):
        return None


def test_a_checkpoint_of_what_the_test_has_fitted(tmp_path):
    path = tmp_path / "checkpoints" / "last.ckpt"
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    Trainer(accelerator="cpu", callbacks=[SaveAfterTest(str(path))], enable_checkpointing=False, **quiet).test(
        Task(), DataLoader(torch.zeros(2)), verbose=False
    )
    assert torch.load(path, weights_only=True)["state_dict"]["fitted"] == 7
