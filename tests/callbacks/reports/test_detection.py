import contextlib
import io
import json

import pytest
from downstream_runs import configure
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from conmim_lightning.evaluate import run as evaluate


def test_predictions_are_readable_by_pycocotools(dense_runs, scenes_root, tmp_path):
    out = tmp_path / "results.json"
    metrics = evaluate(
        configure("evaluate", tmp_path, f"checkpoint={dense_runs}/coco", f"predictions={out}", "+data.eval_limit=24")
    )
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(scenes_root / "coco" / "annotations" / "instances_val.json")
        entries = json.loads(out.read_text())
        for kind, ours in (("bbox", "box"), ("segm", "mask")):
            omitted = "segmentation" if kind == "bbox" else "bbox"
            given = truth.loadRes([{key: entry[key] for key in entry if key != omitted} for entry in entries])
            evaluation = COCOeval(truth, given, kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            assert metrics[f"test/{ours}_ap"] == pytest.approx(evaluation.stats[0], abs=1e-6)
            assert metrics[f"test/{ours}_ap50"] == pytest.approx(evaluation.stats[1], abs=1e-6)
            assert metrics[f"test/{ours}_recall"] == pytest.approx(evaluation.stats[8], abs=1e-6)
