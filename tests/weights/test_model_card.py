import yaml

from conmim_lightning.weights.model_card import model_card

CHECKPOINT = {
    "global_step": 40,
    "run": {
        "packages": {"torch": "2.14"}, "command": ["train", "experiment=x"], "git": "abc",
        "config": {
            "backbone": {"img_size": 32}, "data": {"mean": [0.5], "std": [0.2], "batch_size": 8},
            "optimizer": {"lr": 0.001}, "schedule": {"epochs": 3},
            "task": {"_target_": "conmim_lightning.tasks.pretrain.PretrainTask"},
        },
    },
}  # fmt: skip


def test_a_card_of_a_teacher():
    card = model_card(CHECKPOINT, width=16, branch="teacher", classes=[], metrics={"val/knn_top1": 0.5, "loss": 3.0})
    header, text = card.split("---\n")[1:3]
    assert yaml.safe_load(header)["pipeline_tag"] == "image-feature-extraction"
    for line in (
        "The teacher's encoder, pre-trained without labels",
        "| val/knn_top1 | 0.5 |",
        "| optimizer.lr | 0.001 |",
        "| schedule.epochs | 3 |",
        "(B, 1 + patches, 16)",
        "`train experiment=x`",
    ):
        assert line in text
    assert "loss" not in text


def test_a_card_of_a_classifier():
    record = CHECKPOINT["run"] | {
        "config": CHECKPOINT["run"]["config"] | {"task": {"_target_": "x.ClassificationTask"}}
    }
    classes = [f"c{number}" for number in range(12)]
    card = model_card(CHECKPOINT | {"run": record}, width=16, branch="", classes=classes, metrics={})
    assert "A model fine-tuned with labels (from random initialisation)" in card
    assert "It has 12 classes: c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, ..." in card
    assert "pipeline_tag: image-classification" in card
    assert "Metrics" not in card
