import csv
from types import SimpleNamespace

import torch

from conmim_lightning.callbacks.reports.predictions import Predictions

CLASSES = ["cat", "dog", "emu"]


def write(path, *, all_scores=False):
    callback = Predictions(str(path), all_scores=all_scores)
    data = SimpleNamespace(image_name=lambda split, index: f"{split}/{index}.jpg")
    trainer = SimpleNamespace(datamodule=data, is_global_zero=True, world_size=1)
    task = SimpleNamespace(classes=CLASSES)
    outputs = {
        "scores": torch.tensor([[0.1, 0.7, 0.2], [0.0, 0.0, 0.0], [0.5, 0.2, 0.3]]),
        "label": torch.tensor([1, -1, -1]),
        "index": torch.tensor([2, 1, 0]),
    }
    batch = SimpleNamespace(broken=["", "1.jpg\tcut", ""])
    callback.on_test_batch_end(trainer, task, outputs, batch, 0)
    callback.on_test_end(trainer, task)
    with path.open() as file:
        return list(csv.reader(file, delimiter="\t"))


def test_images_come_in_their_order_with_their_reasons(tmp_path):
    header, first, broken, last = write(tmp_path / "new" / "predictions.tsv")
    assert header[:5] == ["image", "class", "error", "prediction_1", "score_1"]
    assert first == ["test/0.jpg", "", "", "cat", "0.5", "emu", "0.3", "dog", "0.2"]
    assert broken == ["test/1.jpg", "", "cut"]
    assert last[:5] == ["test/2.jpg", "dog", "", "dog", "0.7"]


def test_scores_of_all_classes(tmp_path):
    header, first, *_ = write(tmp_path / "predictions.tsv", all_scores=True)
    assert header[-3:] == ["score of cat", "score of dog", "score of emu"]
    assert first[-3:] == ["0.5", "0.2", "0.3"]
