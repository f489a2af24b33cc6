"""The card of an exported model: what it is, how it was trained, and how to open it."""

from collections.abc import Mapping, Sequence
from typing import Any

_CONTENT = {
    "PretrainTask": "The {branch}'s encoder, pre-trained without labels",
    "ClassificationTask": "A model fine-tuned with labels (from {start})",
    "SegmentationTask": "A segmenter (from {start})",
    "DetectionTask": "A detector (from {start})",
}
_METRICS = ("test/", "val/")  # beginnings of the metrics to show; of pre-training, those of its probes
_SHOWN = 12
_SETTINGS = ("optimizer.lr", "optimizer.weight_decay", "data.batch_size", "schedule.epochs", "schedule.steps")
_SETTINGS += ("masking.ratio", "loss.temperature")

_CARD = """---
tags: [conmim, masked-image-modeling, vision-transformer]
pipeline_tag: {pipeline}
---

# ConMIM vision Transformer

{content}, after {steps} optimizer steps, written by conmim-lightning, an implementation of masked
image modeling with denoising contrast ([ConMIM](https://arxiv.org/abs/2205.09616)). {classes}

A folder for timm (the key `architecture` is in `config.json`):

```python
import timm
model = timm.create_model("local-dir:THIS_FOLDER", pretrained=True, num_classes=0)
tokens = model.forward_features(images)  # (B, prefix + patches, {width})
```

A folder for transformers (the key `model_type` is in `config.json`):

```python
from transformers import AutoImageProcessor, AutoModel
inputs = AutoImageProcessor.from_pretrained("THIS_FOLDER")(image, return_tensors="pt")
tokens = AutoModel.from_pretrained("THIS_FOLDER")(**inputs).last_hidden_state  # (B, 1 + patches, {width})
```

Images of {img_size} pixels, normalised with mean {mean} and standard
deviation {std}. The use of the weights is subject to the terms of their training images.
{tables}
- command: `{command}`
- commit: {commit}
- {versions}
"""


def model_card(
    checkpoint: Mapping[str, Any], *, width: int, branch: str, classes: Sequence[str], metrics: Mapping[str, float]
) -> str:
    """Return a model card in Markdown, with the header that the Hugging Face Hub reads.

    Args:
        checkpoint: checkpoint with the record of its run.
        width: width D of the tokens.
        branch: "teacher" or "student" of a pre-training run.
        classes: class names of the exported classifier; empty if there is none.
        metrics: final metrics of the run by name.
    """
    record = checkpoint["run"]
    config = record["config"]
    start = config["backbone"].get("weights") or "random initialisation"
    task = config["task"]["_target_"].rsplit(".", 1)[-1]
    content = _CONTENT.get(task, "An encoder (from {start}; not trained further)").format(branch=branch, start=start)
    versions = ", ".join(f"{name} {version}" for name, version in record["packages"].items())
    return _CARD.format(
        pipeline="image-classification" if classes else "image-feature-extraction",
        content=content,
        steps=checkpoint["global_step"],
        classes=_describe_classes(classes),
        width=width,
        img_size=config["backbone"].get("img_size"),
        mean=config["data"]["mean"],
        std=config["data"]["std"],
        tables=_table("Metrics", _metrics(metrics)) + _table("Recipe", _recipe(config)),
        command=" ".join(record["command"]),
        commit=record["git"],
        versions=versions,
    )


def _metrics(metrics: Mapping[str, float]) -> dict[str, str]:
    chosen = {name: value for name, value in metrics.items() if name.startswith(_METRICS)}
    return {name: f"{value:.4g}" for name, value in list(chosen.items())[:_SHOWN]}


def _recipe(config: Mapping[str, Any]) -> dict[str, str]:
    rows = {}
    for name in _SETTINGS:
        group, _, key = name.partition(".")
        value = (config.get(group) or {}).get(key)
        if value is not None:
            rows[name] = str(value)
    return rows


def _table(title: str, rows: Mapping[str, str]) -> str:
    if not rows:
        return ""
    lines = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"\n| {title} | |\n|---|---|\n{lines}\n"


def _describe_classes(classes: Sequence[str]) -> str:
    if not classes:
        return "It has no classifier; the mean of its patch tokens describes an image."
    shown = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
    return f"It has {len(classes)} classes: {shown}."
