"""Take weights elsewhere: ``python -m conmim_lightning.export checkpoint=runs/.../last.ckpt output=my-vit``.

Writes the teacher's encoder (or the student's), or a fine-tuned model with its classifier or without, as a folder for
plain timm, without anything of this project:

    timm.create_model("local-dir:my-vit", pretrained=True, num_classes=0)
"""

from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from conmim_lightning.config import CONF_DIR, check
from conmim_lightning.messages import quiet_libraries, told_plainly
from conmim_lightning.resolvers import register_resolvers
from conmim_lightning.train import restored_task


def run(cfg: DictConfig) -> Path:
    """Check a composed configuration and export what it names; returns the folder.

    Raises:
        ValueError: the checkpoint cannot be used, or the output is not an empty folder.
    """
    plain = check(cfg)
    from conmim_lightning.weights.read import BRANCHES
    from conmim_lightning.weights.timm_folder import export_backbone

    if plain["branch"] not in BRANCHES:
        raise ValueError(f"branch must be one of {list(BRANCHES)}, got {plain['branch']!r}")
    if plain["head"] not in (True, False, None):
        raise ValueError(f"head must be true, false or null, got {plain['head']!r}")

    quiet_libraries()
    task, checkpoint = restored_task(plain["checkpoint"])
    record = checkpoint["run"]
    config = record["config"]
    backbone = _backbone(task, plain)
    classes = checkpoint.get("classes") if backbone.num_classes else None
    if plain["head"] and not classes:
        raise ValueError(f"checkpoint {plain['checkpoint']!r} has no classifier to export; leave head=true out")
    folder = Path(plain["output"])
    export_backbone(
        backbone,
        config["backbone"],
        folder,
        mean=config["data"]["mean"],
        std=config["data"]["std"],
        crop_pct=_crop_pct(config["data"]),
        card=_card(record, checkpoint["global_step"], plain["branch"], classes if plain["head"] is not False else None),
        classes=classes,
        head=plain["head"] is not False,
    )
    return folder


def _backbone(task: Any, plain: dict[str, Any]) -> Any:
    if not hasattr(task, "backbone"):
        raise ValueError(
            f"checkpoint {plain['checkpoint']!r} is of {type(task).__name__}, whose backbone was made for maps; "
            "exported are those of pre-training and classification"
        )
    return task.backbone(plain["branch"])


def _card(record: dict[str, Any], step: int, branch: str, classes: list[str] | None) -> str:
    """What the folder holds and where it comes from."""
    backbone = record["config"]["backbone"]
    versions = ", ".join(f"{name} {version}" for name, version in record["packages"].items())
    start = backbone.get("weights") or "drawn weights"
    what = {
        "PretrainTask": f"The {branch}'s encoder",
        "ClassificationTask": f"A model fine-tuned with labels (started from {start})",
    }.get(record["config"]["task"]["_target_"].rsplit(".", 1)[-1], f"An encoder (from {start}; not trained since)")
    return f"""# ConMIM vision Transformer

{what} after {step} optimizer steps, written by conmim-lightning, an implementation of masked image modeling with
denoising contrast ([ConMIM](https://arxiv.org/abs/2205.09616)). {_told_classes(classes)}

```python
import timm
model = timm.create_model("local-dir:THIS_FOLDER", pretrained=True, num_classes=0)
tokens = model.forward_features(images)  # (B, prefix + patches, {backbone.get("embed_dim")})
```

Images of {backbone.get("img_size")} pixels, normalised with the mean and std that `config.json` names. The weights were
trained on images only; their use is subject to the terms of those images.

- command: `{" ".join(record["command"])}`
- commit: {record["git"]}
- {versions}
"""


def _crop_pct(data: dict[str, Any]) -> float:
    """Share of the shorter side that evaluation keeps."""
    transform = data.get("evaluation_transform", {})
    return transform["size"] / transform["resize"] if transform.get("resize") else 1.0


def _told_classes(classes: list[str] | None) -> str:
    if not classes:
        return "It has no classifier."
    shown = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
    return f"Its classifier knows {len(classes)} classes (leave out `num_classes=0` to have it): {shown}."


@hydra.main(version_base="1.3", config_path=CONF_DIR, config_name="export")
def main(cfg: DictConfig) -> None:
    """Export and say how to open it."""
    folder = run(cfg)
    print(f'timm.create_model("local-dir:{folder}", pretrained=True, num_classes=0)')


if __name__ == "__main__":
    register_resolvers()
    with told_plainly():
        main()
