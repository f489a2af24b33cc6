import json
import sys

import pytest
import torch
import transformers
from exported_models import MEAN, exported_model
from PIL import Image
from sklearn.datasets import load_sample_image

from conmim_lightning.data.transforms.classification import EvaluationTransform
from conmim_lightning.inference.load import load
from conmim_lightning.inference.preprocessing import Preprocessing
from conmim_lightning.weights.export_huggingface import HuggingFaceFolder
from conmim_lightning.weights.names import hugging_face_state

FAMILIES = {
    "shared table": {},
    "table per block": {"shared_rel_pos_bias": False},
    "no layer scale": {"init_values": None},
    "absolute": {"positions": "absolute", "shared_rel_pos_bias": False, "init_values": None},
    "absolute with layer scale": {"positions": "absolute", "shared_rel_pos_bias": False},
    "another ratio": {"timm_args": {"mlp_ratio": 2.0}},
    "grey": {"in_chans": 1},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoder(tmp_path, family):
    model = exported_model(**FAMILIES[family])
    if family == "grey":
        model = model._replace(image=(1, 32, 32), mean=MEAN[:1], std=[0.2])
    text = HuggingFaceFolder().write(model, tmp_path / "out")
    assert f'transformers.AutoModel.from_pretrained("{tmp_path}/out")(images).last_hidden_state' in text
    theirs = transformers.AutoModel.from_pretrained(tmp_path / "out").eval()
    images = torch.randn(2, *model.image)
    with torch.no_grad():
        expected = model.backbone.forward_features(images)
        torch.testing.assert_close(theirs(images).last_hidden_state, expected, atol=1e-5, rtol=1e-5)
    assert (tmp_path / "out" / "README.md").read_text() == "# A model"
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("pool", ["avg", "token"])
def test_a_classifier_keeps_its_labels(tmp_path, pool):
    model = exported_model(classes=3, global_pool=pool)
    HuggingFaceFolder().write(model, tmp_path / "out")
    theirs = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "out").eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(theirs(images).logits, model.backbone(images), atol=1e-5, rtol=1e-5)
    assert theirs.config.id2label == {0: "class 0", 1: "class 1", 2: "class 2"}
    ours = load(tmp_path / "out")
    torch.testing.assert_close(ours(images), model.backbone(images).softmax(1), atol=1e-5, rtol=1e-5)
    assert ours.classes == model.classes


def test_the_image_processor(tmp_path):
    model = exported_model()
    HuggingFaceFolder().write(model, tmp_path / "out")
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "out")
    photograph = Image.fromarray(load_sample_image("china.jpg")[:, :427])  # others may be shifted by half a pixel
    pixels = processor(photograph, return_tensors="pt")["pixel_values"][0]
    own = Preprocessing(EvaluationTransform(32, resize=37), size=32, mean=model.mean, std=model.std)
    assert (pixels - own(photograph)).abs().max() < 0.06, "two levels of grey"


def test_what_transformers_lacks(tmp_path):
    rotary = exported_model(positions="rotary", shared_rel_pos_bias=False)
    for model, message in (
        (rotary, "transformers has no .* with the positions of timm's Eva; use format=timm"),
        (exported_model()._replace(kind="segmenter"), "has no segmenter .* use format=onnx and format=torch"),
        (exported_model()._replace(kind="detector"), "has no detector .* use conmim_lightning.load"),
        (exported_model(classes=2, positions="absolute", global_pool="token"), "Dinov2 has no classifier of the class"),
        (exported_model(classes=2, positions="absolute", init_values=None), "has no mean pooling before its norm"),
        (exported_model(timm_args={"reg_tokens": 2}, positions="absolute", shared_rel_pos_bias=False), "no place for"),
    ):
        with pytest.raises(ValueError, match=message):
            HuggingFaceFolder().write(model, tmp_path / "out")
        assert not list(tmp_path.iterdir()), message


def test_a_model_that_differs_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("conmim_lightning.weights.export_huggingface.hugging_face_state", lambda target, state: target)
    with pytest.raises(ValueError, match="transformers' outputs differ by"):
        HuggingFaceFolder().write(exported_model(), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_without_transformers(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"pip install 'conmim-lightning\[huggingface\]'"):
        HuggingFaceFolder().write(exported_model(), tmp_path / "out")


def test_a_full_folder(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(ValueError, match="is not an empty folder"):
        HuggingFaceFolder().write(exported_model(), tmp_path)
    assert json.dumps([path.name for path in tmp_path.iterdir()]) == '["x"]'


def test_shapes_are_compared():
    state = {"cls_token": torch.zeros(1, 1, 8)}
    with pytest.raises(ValueError, match=r"has another shape of embeddings\.cls_token"):
        hugging_face_state({"embeddings.cls_token": torch.zeros(1, 1, 4)}, state)
