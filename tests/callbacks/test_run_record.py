import pytest
import torch
import yaml
from callback_runs import SHORT

from conmim_lightning.train import run


def test_the_record_is_stored_with_run_and_checkpoint(finished_run):
    _, folder = finished_run
    record = yaml.safe_load((folder / "run.yaml").read_text())
    assert record["config"]["loss"]["temperature"] == 0.1
    assert torch.__version__.startswith(record["packages"]["torch"])
    assert record["git"]
    stored = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=False)["run"]
    assert stored == record


@pytest.mark.slow
def test_secrets_are_nowhere(tmp_path, composed, tiny, monkeypatch):
    secret = "5ec2e7" * 6 + "abcd"
    monkeypatch.setenv("WANDB_API_KEY", secret)
    monkeypatch.setenv("WANDB_MODE", "offline")
    run(composed(*SHORT, *tiny, "trainer.max_steps=1", "logger=wandb"))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any("wandb" in path.parts for path in files)
    assert not [path for path in files if secret.encode() in path.read_bytes()]
