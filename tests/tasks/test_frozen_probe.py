import torch
from downstream_runs import FEW, configure, state

from conmim_lightning.probes import knn
from conmim_lightning.train import run as train


def test_features_of_several_crops(labelled_runs, tmp_path):
    """Twice as many neighbours, and not the central squares."""
    _, changes = labelled_runs
    own = [item for item in changes if "schedule" not in item]
    train(configure("train", tmp_path, "experiment=vit_b_knn", *own, FEW, "task.views=2"))
    bank = state(tmp_path)["probes.knn._extra_state"]["bank"]
    assert len(bank) == 2 * 48
    assert not torch.equal(bank[:48], bank[48:])


def test_a_fine_tuned_model_may_be_probed(labelled_runs, tmp_path):
    folder, changes = labelled_runs
    own = [item for item in changes if "schedule" not in item and "weights" not in item]
    own += [f"backbone.weights={folder}/finetuned", "backbone=vit_tiny", "backbone/use=finetuned", FEW]
    train(configure("train", tmp_path, "experiment=vit_b_knn", *own))
    before, after = state(folder / "finetuned"), state(tmp_path)
    assert torch.equal(after["features.backbone.blocks.3.attn.qkv.weight"], before["model.blocks.3.attn.qkv.weight"])


def test_neighbours_vote_in_full_precision_under_bfloat16(labelled_runs, tmp_path, monkeypatch):
    """The encoder may run in bfloat16; cosines must not."""
    calls, original = [], knn.knn_votes

    def spy(queries, *args, **kwargs):
        calls.append(((queries @ queries.T).dtype, torch.is_autocast_enabled("cpu")))
        return original(queries, *args, **kwargs)

    monkeypatch.setattr(knn, "knn_votes", spy)
    _, changes = labelled_runs
    own = [item for item in changes if "schedule" not in item and "precision" not in item]
    train(configure("train", tmp_path, "experiment=vit_b_knn", *own, FEW, "trainer.precision=bf16-mixed"))
    assert set(calls) == {(torch.float32, False)}
