import numpy as np
import pytest
from downstream_runs import configure
from PIL import Image

from conmim_lightning.callbacks.reports.segmentation import SegmentationReport
from conmim_lightning.evaluate import run as evaluate


def test_class_maps_are_written_with_the_collections_values(dense_runs, scenes_root, tmp_path):
    """Read by Pillow and numpy alone, they have the accuracy of the evaluation."""
    out = tmp_path / "maps"
    metrics = evaluate(
        configure(
            "evaluate", tmp_path, f"checkpoint={dense_runs}/segmentation", f"predictions={out}", "+data.eval_limit=24"
        )
    )
    correct = total = 0
    for path in sorted((scenes_root / "ade20k" / "annotations" / "validation").iterdir()):
        prediction, label = np.asarray(Image.open(out / path.name)), np.asarray(Image.open(path))
        correct, total = correct + (prediction == label).sum(), total + label.size
    assert len(list(out.iterdir())) == 24
    assert metrics["test/pixel_accuracy"] == pytest.approx(correct / total, abs=1e-6)


@pytest.mark.parametrize("name", ["/data/a.png", "../a.png", "x/../../a.png"])
def test_a_prediction_never_leaves_its_folder(tmp_path, name):
    report = SegmentationReport(str(tmp_path), predictions=str(tmp_path / "out"))
    with pytest.raises(ValueError, match="would lie outside of"):
        report._write_map(np.zeros((2, 2), np.uint8), name)
    assert not list(tmp_path.iterdir())
