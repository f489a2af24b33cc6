"""Take weights elsewhere: ``python -m conmim_lightning.export checkpoint=runs/.../last.ckpt output=my-vit``.

Writes the teacher's encoder (or the student's) as a folder for plain timm, without anything of this project:

    timm.create_model("local-dir:my-vit", pretrained=True, num_classes=0)
"""

from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from conmim_lightning.config import CONF_DIR, check, register_resolvers
from conmim_lightning.messages import quiet_libraries, told_plainly
from conmim_lightning.train import restored_task

_BRANCHES = ("teacher", "student")


def run(cfg: DictConfig) -> Path:
    """Check a composed configuration and export what it names; returns the folder.

    Raises:
        ValueError: the checkpoint cannot be used, or the output is not an empty folder.
    """
    plain = check(cfg)
    if plain["branch"] not in _BRANCHES:
        raise ValueError(f"branch must be one of {list(_BRANCHES)}, got {plain['branch']!r}")
    from conmim_lightning.weights.timm_folder import export_backbone

    quiet_libraries()
    task, checkpoint = restored_task(plain["checkpoint"])
    record = checkpoint["run"]
    config = record["config"]
    encoder = task.model.teacher_encoder if plain["branch"] == "teacher" else task.model.student.encoder
    arguments = {name: value for name, value in config["backbone"].items() if name != "_target_"}
    folder = Path(plain["output"])
    card = _card(record, checkpoint["global_step"], plain["branch"])
    export_backbone(
        encoder.backbone, arguments, folder, mean=config["data"]["mean"], std=config["data"]["std"], card=card
    )
    return folder


def _card(record: dict[str, Any], step: int, branch: str) -> str:
    """What the folder holds and where it comes from."""
    backbone = record["config"]["backbone"]
    versions = ", ".join(f"{name} {version}" for name, version in record["packages"].items())
    return f"""# ConMIM encoder

The {branch}'s encoder after {step} optimizer steps of masked image modeling with denoising contrast
([ConMIM](https://arxiv.org/abs/2205.09616)), written by conmim-lightning. It has no classifier.

```python
import timm
model = timm.create_model("local-dir:THIS_FOLDER", pretrained=True, num_classes=0)
tokens = model.forward_features(images)  # (B, prefix + patches, {backbone.get("embed_dim")}), after the final norm
```

Images of {backbone.get("img_size")} pixels, normalised with the mean and std that `config.json` names. The weights were
trained on images only; their use is subject to the terms of those images.

- command: `{" ".join(record["command"])}`
- commit: {record["git"]}
- {versions}
"""


@hydra.main(version_base="1.3", config_path=CONF_DIR, config_name="export")
def main(cfg: DictConfig) -> None:
    """Export and say how to open it."""
    folder = run(cfg)
    print(f'timm.create_model("local-dir:{folder}", pretrained=True, num_classes=0)')


if __name__ == "__main__":
    register_resolvers()
    with told_plainly():
        main()
