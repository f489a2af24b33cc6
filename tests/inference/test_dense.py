import json

import numpy as np
import pytest
from downstream_runs import configure
from photographs import photographs, size_of
from PIL import Image

from conmim_lightning import load
from conmim_lightning.evaluate import run as evaluate
from conmim_lightning.inference.dense import LoadedDetector, LoadedSegmenter


@pytest.mark.slow
def test_dense_models_have_the_predictions_of_evaluate(dense_runs, tmp_path):
    paths = photographs(tmp_path)
    images = f"images=[{paths[0]},{paths[1]}]"
    segmenter = load(dense_runs / "segmentation")
    assert isinstance(segmenter, LoadedSegmenter)
    own = [f"checkpoint={dense_runs}/segmentation", images, f"predictions={tmp_path}/maps"]
    evaluate(configure("evaluate", tmp_path / "a", *own))
    for path, predicted in zip(paths, segmenter.predict(paths), strict=True):
        assert predicted.labels.shape == size_of(path)
        with Image.open(tmp_path / "maps" / f"{path.stem}.png") as image:
            stored = np.asarray(image).astype(int)
        assert len(np.unique(stored - predicted.labels.numpy())) == 1, "but for the value of the first class"
    detector = load(dense_runs / "coco")
    assert isinstance(detector, LoadedDetector)
    own = [f"checkpoint={dense_runs}/coco", images, f"predictions={tmp_path}/boxes.json"]
    evaluate(configure("evaluate", tmp_path / "b", *own))
    stored = json.loads((tmp_path / "boxes.json").read_text())
    objects = detector.predict(paths)
    assert len(stored) == sum(len(image.scores) for image in objects) > 0
    for path, image in zip(paths, objects, strict=True):
        entries = [entry for entry in stored if entry["image_id"] == path.name]
        assert [entry["category"] for entry in entries] == image.classes
        left, top, width, height = np.asarray([entry["bbox"] for entry in entries]).T
        corners = np.stack([left, top, left + width, top + height], 1)
        np.testing.assert_allclose(image.boxes.numpy(), corners, atol=1e-2)
        assert image.masks.shape[1:] == size_of(path)
    with pytest.raises(ValueError, match=r"'nothing.jpg' cannot be read"):
        detector.predict("nothing.jpg")
