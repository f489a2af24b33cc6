import pytest
import torch
from downstream_runs import configure

from conmim_lightning.runtime.restore import check_backbone, restored_task, without_weights
from conmim_lightning.train import run as train


def test_a_test_cannot_be_resumed(labelled_runs, tmp_path):
    folder, changes = labelled_runs
    own = [item for item in changes if "schedule" not in item]
    with pytest.raises(ValueError, match=r"resume= continues training, but stages has no fit"):
        train(configure("train", tmp_path, "experiment=vit_b_knn", *own, f"resume={folder}/finetuned"))


def test_a_task_is_restored_with_its_weights(labelled_runs):
    folder, _ = labelled_runs
    task, checkpoint = restored_task(str(folder / "finetuned"))
    assert type(task).__name__ == "ClassificationTask"
    assert task.classes == checkpoint["classes"]
    assert all(torch.equal(value, checkpoint["state_dict"][name]) for name, value in task.state_dict().items())


def test_a_checkpoint_without_a_record_is_an_error(tmp_path):
    torch.save({"state_dict": {}, "loops": {}}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="has no record of its run"):
        restored_task(str(tmp_path / "a.ckpt"))


def test_settings_of_the_backbone_that_shapes_do_not_show_are_compared():
    recorded = {"run": {"config": {"backbone": {"num_heads": 2, "drop_path_rate": 0.1, "weights": "a"}}}}
    check_backbone(recorded, {"backbone": {"num_heads": 2, "drop_path_rate": 0.3, "weights": None}})
    with pytest.raises(ValueError, match=r"another architecture: backbone.num_heads 2 instead of 4"):
        check_backbone(recorded, {"backbone": {"num_heads": 4}})
    check_backbone({}, {"backbone": {"num_heads": 4}})


@pytest.mark.parametrize("task", [{"model": {"weights": "x"}}, {"model": {"backbone": {"weights": "x", "depth": 2}}}])
def test_a_restored_model_does_not_need_the_weights_it_started_from(task):
    assert "x" not in str(without_weights(task))
    assert "x" in str(task), "the original is not changed"
