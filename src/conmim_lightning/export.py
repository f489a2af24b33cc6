"""Export weights: ``python -m conmim_lightning.export checkpoint=runs/.../last.ckpt output=my-vit``.

Write the encoder of the teacher or student, or a fine-tuned model with or without its classifier, in a format that
does not need this project; by default, a folder for timm:

    timm.create_model("local-dir:my-vit", pretrained=True, num_classes=0)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from conmim_lightning.config.check import CONF_DIR, check
from conmim_lightning.runtime.errors import quiet_libraries
from conmim_lightning.runtime.launch import run_command

if TYPE_CHECKING:
    from conmim_lightning.weights.checkpoint import Checkpoint


def run(cfg: DictConfig) -> str:
    """Check a composed configuration, export its checkpoint, and return the code that opens the result.

    Raises:
        ValueError: the checkpoint cannot be used, or the output exists.
    """
    config = check(cfg, "export")
    from hydra.utils import instantiate

    from conmim_lightning.runtime.restore import restored_task
    from conmim_lightning.weights.read import BRANCHES

    branch, head = config["branch"], config["head"]
    if branch not in BRANCHES:
        raise ValueError(f"branch must be one of {list(BRANCHES)}, got {branch!r}")
    if head not in (True, False, None):
        raise ValueError(f"head must be true, false or null, got {head!r}")
    quiet_libraries()
    writer = instantiate(config["format"])
    task, checkpoint = restored_task(config["checkpoint"], trust=config["trust"])
    if not hasattr(task, "backbone"):
        raise ValueError(
            f"checkpoint {config['checkpoint']!r} is of {type(task).__name__}, whose backbone is adapted to maps; only "
            "those of pre-training and classification are exported"
        )
    model = _exported(task.backbone(branch), checkpoint, branch, head)
    if head and not model.classes:
        raise ValueError(f"checkpoint {config['checkpoint']!r} has no classifier to export; leave out head=true")
    return writer.write(model, Path(config["output"]))


def _exported(backbone: Any, checkpoint: "Checkpoint", branch: str, head: bool | None) -> Any:
    """Return the model to export and the facts about it that a format needs."""
    from conmim_lightning.models.backbones import info_of
    from conmim_lightning.weights.exported import ExportedModel

    data, info = checkpoint["run"]["config"]["data"], info_of(backbone)
    assert info is not None
    classes = checkpoint.get("classes", []) if backbone.num_classes and head is not False else []
    evaluation = data.get("evaluation_transform", {})
    return ExportedModel(
        backbone=backbone,
        architecture=info.architecture,
        arguments=info.arguments,
        mean=data["mean"],
        std=data["std"],
        crop_pct=evaluation["size"] / evaluation["resize"] if evaluation.get("resize") else 1.0,
        classes=classes,
        head=head is not False,
        card=_card(checkpoint, backbone, branch, classes),
    )


def _card(checkpoint: "Checkpoint", backbone: Any, branch: str, classes: Sequence[str]) -> str:
    """Return the model card: content and origin of the weights."""
    record = checkpoint["run"]
    versions = ", ".join(f"{name} {version}" for name, version in record["packages"].items())
    start = record["config"]["backbone"].get("weights") or "random initialisation"
    content = {
        "PretrainTask": f"The {branch}'s encoder",
        "ClassificationTask": f"A model fine-tuned with labels (from {start})",
    }.get(record["config"]["task"]["_target_"].rsplit(".", 1)[-1], f"An encoder (from {start}; not trained further)")
    return f"""# ConMIM vision Transformer

{content} after {checkpoint["global_step"]} optimizer steps, written by conmim-lightning, an implementation of masked
image modeling with denoising contrast ([ConMIM](https://arxiv.org/abs/2205.09616)). {_describe_classes(classes)}

```python
import timm
model = timm.create_model("local-dir:THIS_FOLDER", pretrained=True, num_classes=0)
tokens = model.forward_features(images)  # (B, prefix + patches, {backbone.embed_dim})
```

Images of {record["config"]["backbone"].get("img_size")} pixels, normalised with the mean and std in `config.json`. The
weights were trained on images only; their use is subject to the terms of those images.

- command: `{" ".join(record["command"])}`
- commit: {record["git"]}
- {versions}
"""


def _describe_classes(classes: Sequence[str]) -> str:
    if not classes:
        return "It has no classifier."
    shown = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
    return f"Its classifier has {len(classes)} classes (omit `num_classes=0` to keep it): {shown}."


@hydra.main(version_base="1.3", config_path=CONF_DIR, config_name="export")
def main(cfg: DictConfig) -> None:
    """Export, and print the code that opens the result."""
    print(run(cfg))


if __name__ == "__main__":
    run_command(main)
