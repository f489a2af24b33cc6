from types import SimpleNamespace

import torch
from PIL import Image

from conmim_lightning.callbacks.reports.classification import ClassificationReport


def report(folder, classes, labels, predictions):
    callback = ClassificationReport(str(folder))
    task = SimpleNamespace(num_classes=len(classes), classes=classes, device=torch.device("cpu"))
    trainer = SimpleNamespace(is_global_zero=True, loggers=[])
    callback.on_test_start(trainer, task)
    scores = torch.nn.functional.one_hot(torch.tensor(predictions), len(classes)).bfloat16()
    outputs = {"scores": scores, "label": torch.tensor(labels)}
    callback.on_test_batch_end(trainer, task, outputs, None, 0)
    callback.on_test_epoch_end(trainer, task)
    return (folder / "per_class.tsv").read_text().splitlines()


def test_accuracy_and_errors_per_class(tmp_path):
    lines = report(tmp_path / "new", ["a", "b", "c"], [0, 0, 0, 0, 1, -1], [0, 2, 2, 1, 1, 0])
    assert lines == [
        "class\timages\ttop1\tconfused_with\tfraction",
        "a\t4\t0.2500\tc\t0.5000",
        "b\t1\t1.0000\t\t",
        "c\t0\tnan\t\t",
    ]
    with Image.open(tmp_path / "new" / "confusion.png") as figure:
        assert figure.width > 400


def test_only_images_without_a_class(tmp_path):
    assert report(tmp_path, ["a", "b"], [-1], [0])[1:] == ["a\t0\tnan\t\t", "b\t0\tnan\t\t"]
