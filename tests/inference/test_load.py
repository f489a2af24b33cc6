"""Loaded models beside the commands: the same features and predictions."""

import pytest
import timm
import torch
import transformers
from downstream_runs import configure, export, table
from photographs import photographs
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image

from conmim_lightning import load
from conmim_lightning.data.datasets.probes import ProbeData
from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.sources.folder import FolderSource
from conmim_lightning.evaluate import run as evaluate
from conmim_lightning.inference.models import LoadedClassifier, LoadedEncoder
from conmim_lightning.runtime.restore import restored_task


def test_an_encoder_has_the_features_of_the_probe(labelled_runs, scenes_root):
    folder, _ = labelled_runs
    model = load(folder / "pretrained")
    assert type(model) is LoadedEncoder
    source = FolderSource(scenes_root / "folders" / "val")
    squares = ProbeData(decoder=Decoder(), size=32, batch_size=8, limits={}).squares(source)
    task, _ = restored_task(str(folder / "pretrained"))
    task.eval()
    batch = squares.collate([squares[index] for index in range(4)])
    with torch.no_grad():
        expected = task(task.perturbation.normalize(batch.image)).mean(1)
    torch.testing.assert_close(model.features([source.path(index) for index in range(4)]), expected)
    student = load(folder / "pretrained" / "checkpoints" / "last.ckpt", branch="student")
    assert not torch.allclose(student.features(source.path(0)), expected[:1])


@pytest.mark.parametrize("run", ["finetuned", "linear", "frozen"])
def test_a_classifier_has_the_predictions_of_evaluate(labelled_runs, tmp_path, run):
    folder, _ = labelled_runs
    paths = photographs(tmp_path)
    evaluate(configure("evaluate", tmp_path / "out", f"checkpoint={folder}/{run}", f"images=[{paths[0]},{paths[1]}]"))
    model = load(str(folder / run))
    assert isinstance(model, LoadedClassifier)
    for row, prediction in zip(table(tmp_path / "out" / "predictions.tsv"), model.predict(paths), strict=True):
        assert [row[f"prediction_{rank}"] for rank in range(1, 6)] == prediction.classes
        assert float(row["score_1"]) == pytest.approx(prediction.scores[0], rel=1e-5)
    assert model.features(paths).shape[0] == 2


@pytest.mark.parametrize("head", [None, False])
def test_an_exported_classifier(labelled_runs, tmp_path, head):
    folder, _ = labelled_runs
    output = export(configure("export", tmp_path, f"checkpoint={folder}/finetuned", f"output={tmp_path}/out",
                              f"head={'null' if head is None else 'false'}"))  # fmt: skip
    paths = photographs(tmp_path)
    model, trained = load(output), load(folder / "finetuned")
    torch.testing.assert_close(model.features(paths), trained.features(paths))
    if head is None:
        assert model.predict(paths)[0].classes == trained.predict(paths)[0].classes
    else:
        assert type(model) is LoadedEncoder


def test_a_timm_model(monkeypatch, tmp_path):
    """By its name, with the preprocessing that timm gives it."""
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False).eval()
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained=False: model if pretrained else create(name))
    loaded = load("vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    paths = photographs(tmp_path)
    prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    for path in paths:
        with Image.open(path) as image:
            expected = prepare(image)
        assert (loaded.transform(path) - expected).abs().max() < 0.1, "two levels of grey, by the order of rounding"
    assert "tench" in {name.split(",")[0] for name in loaded.classes}
    images = torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(loaded(images), model(images).softmax(1))


def test_a_folder_of_transformers(tmp_path):
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128, image_size=32, patch_size=8,
        id2label={0: "cat", 1: "dog", 2: "cow"},
    )  # fmt: skip
    theirs = transformers.ViTForImageClassification(config).eval()
    theirs.save_pretrained(tmp_path / "vit")
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    model = load(tmp_path / "vit")
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(images), theirs(images).logits.softmax(1), atol=1e-5, rtol=1e-5)
    assert model.classes == ["cat", "dog", "cow"]
    assert model.transform.mean == [0.5] * 3


PROCESSORS = {
    "ViT": lambda t: t.ViTImageProcessor(size={"height": 32, "width": 32}),
    "BEiT": lambda t: t.BeitImageProcessor(
        size={"height": 40, "width": 40}, crop_size={"height": 32, "width": 32}, do_center_crop=True
    ),
    "BiT": lambda t: t.BitImageProcessor(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32}),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_the_preprocessing_of_transformers(tmp_path, name):
    """Of processors that squash the image, and of one that keeps its aspect ratio."""
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8
    )
    transformers.ViTModel(config).save_pretrained(tmp_path)
    processor = PROCESSORS[name](transformers)
    processor.save_pretrained(tmp_path)
    photograph = Image.fromarray(load_sample_image("china.jpg")[:400, :600])
    expected = processor(photograph, return_tensors="pt")["pixel_values"][0]
    difference = (load(tmp_path).transform(photograph) - expected).abs()
    assert difference.max() < 0.06, "three levels of grey"


def test_a_processor_that_rescales_in_another_way(tmp_path):
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8
    )
    transformers.ViTModel(config).save_pretrained(tmp_path)
    transformers.ViTImageProcessor(rescale_factor=1 / 127.5).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="does not divide by 255"):
        load(tmp_path)


def test_what_cannot_be_loaded(tmp_path, monkeypatch):
    save_file({"x": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"does not say which architecture .* vit_base\(weights="):
        load(tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="'nowhere' does not exist; give a folder of a run"):
        load("nowhere")
    (tmp_path / "config.json").write_text('{"model_type": "swin"}')
    with pytest.raises(ValueError, match=r"model_type 'swin' of transformers is not read; allowed are beit"):
        load(tmp_path)
    monkeypatch.setattr("conmim_lightning.inference.load.read_weights", lambda name: None)
    with pytest.raises(ValueError, match="'resnet18' is a ResNet; a Beit, Eva or VisionTransformer is needed"):
        load("resnet18")
