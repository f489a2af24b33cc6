"""Export weights: ``python -m conmim_lightning.export checkpoint=runs/.../last.ckpt output=my-vit``.

Write the encoder of the teacher or student, or a fine-tuned model with or without its classifier, in a format that
does not need this project: format=timm (the default), huggingface, onnx or torch.

    timm.create_model("local-dir:my-vit", pretrained=True, num_classes=0)
"""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from conmim_lightning.config.check import CONF_DIR, Config, check
from conmim_lightning.runtime.errors import quiet_libraries
from conmim_lightning.runtime.launch import run_command
from conmim_lightning.runtime.results import METRICS
from conmim_lightning.weights.model_card import model_card

if TYPE_CHECKING:
    from conmim_lightning.weights.checkpoint import Checkpoint
    from conmim_lightning.weights.exported import ExportedModel


def run(cfg: DictConfig) -> str:
    """Check a composed configuration, export its checkpoint, and return the code that opens the result.

    Raises:
        ValueError: the checkpoint cannot be used, or the output exists.
    """
    config = check(cfg, "export")
    from hydra.utils import instantiate

    from conmim_lightning.runtime.restore import restored_task

    branch, head = config["branch"], config["head"]
    if head not in (True, False, None):
        raise ValueError(f"head must be true, false or null, got {head!r}")
    quiet_libraries()
    writer = instantiate(config["format"])
    task, checkpoint = restored_task(config["checkpoint"], trust=config["trust"])
    task.eval()
    metrics = _metrics(Path(config["checkpoint"]))
    dense = not hasattr(task, "backbone")
    model = _dense(task, checkpoint, metrics) if dense else _exported(task, checkpoint, branch, head, metrics)
    if head and not model.classes:
        raise ValueError(f"checkpoint {config['checkpoint']!r} has no classifier to export; leave out head=true")
    settings = _wandb_settings(config, checkpoint) if config["artifact"] else None
    code = writer.write(model, Path(config["output"]))
    if settings is not None:
        _log_artifact(config, settings, metrics)
    return code


def _wandb_settings(config: Config, checkpoint: "Checkpoint") -> dict[str, Any]:
    """Return what identifies the checkpoint's run in wandb; it is offline without a key.

    Raises:
        ValueError: the run was not logged to wandb.
    """
    from conmim_lightning.config.resolvers import without_credential

    record = checkpoint["run"]
    node = record["config"].get("logger", {}).get("wandb")
    if node is None or not record.get("id"):
        raise ValueError(f"artifact=true needs a run with logger=wandb; {config['checkpoint']!r} has none")
    own = {key: node[key] for key in ("project", "entity") if node.get(key)}
    is_offline = without_credential("WANDB_API_KEY", "api.wandb.ai")
    return {"id": record["id"], **own, **({"mode": "offline"} if is_offline else {})}


def _log_artifact(config: Config, settings: dict[str, Any], metrics: dict[str, float]) -> None:
    from conmim_lightning.loggers.wandb import log_artifact

    output, checkpoint = Path(config["output"]), Path(config["checkpoint"]).expanduser()
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent.parent
    name = re.sub("[^A-Za-z0-9_.-]", "-", output.name)
    log_artifact(output, name=name, kind="model", folder=str(folder), settings=settings, metadata=metrics)


def _exported(
    task: Any, checkpoint: "Checkpoint", branch: str, head: bool | None, metrics: dict[str, float]
) -> "ExportedModel":
    """Return the encoder or classifier to export, and the facts about it that a format needs."""
    from conmim_lightning.models.backbones import info_of
    from conmim_lightning.models.normalize import Normalize
    from conmim_lightning.weights.exported import ExportedModel
    from conmim_lightning.weights.graphs import TokenGraph

    backbone = task.backbone(branch)
    data, info = checkpoint["run"]["config"]["data"], info_of(backbone)
    assert info is not None
    classes = checkpoint.get("classes", []) if backbone.num_classes and head is not False else []
    evaluation = data.get("evaluation_transform", {})
    channels = backbone.patch_embed.proj.weight.shape[1]
    return ExportedModel(
        backbone=backbone,
        architecture=info.architecture,
        arguments=info.arguments,
        mean=data["mean"],
        std=data["std"],
        crop_pct=evaluation["size"] / evaluation["resize"] if evaluation.get("resize") else 1.0,
        classes=classes,
        head=head is not False,
        card=model_card(checkpoint, width=backbone.embed_dim, branch=branch, classes=classes, metrics=metrics),
        kind="classifier" if classes else "encoder",
        graph=backbone if classes else TokenGraph(backbone),
        image=(channels, *backbone.patch_embed.img_size),
        normalize=Normalize(data["mean"], data["std"]),
    )


def _dense(task: Any, checkpoint: "Checkpoint", metrics: dict[str, float]) -> "ExportedModel":
    """Return the segmenter or detector to export."""
    from conmim_lightning.models.normalize import Normalize
    from conmim_lightning.weights.exported import ExportedModel
    from conmim_lightning.weights.graphs import ScoreGraph

    data, size = checkpoint["run"]["config"]["data"], task.model.maps.size
    is_segmenter, backbone = hasattr(task, "inference"), task.timm_model
    return ExportedModel(
        backbone=backbone,
        architecture=None,
        arguments={},
        mean=data["mean"],
        std=data["std"],
        crop_pct=1.0,
        classes=task.classes,
        head=True,
        card=model_card(checkpoint, width=backbone.embed_dim, branch="", classes=task.classes, metrics=metrics),
        kind="segmenter" if is_segmenter else "detector",
        graph=ScoreGraph(task.model) if is_segmenter else None,
        image=(len(data["mean"]), size, size),
        normalize=Normalize(data["mean"], data["std"]),
    )


def _metrics(checkpoint: Path) -> dict[str, float]:
    """Return the final metrics of a checkpoint's run; empty if it has none."""
    folder = checkpoint if checkpoint.is_dir() else checkpoint.parent.parent
    path = folder / METRICS
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


@hydra.main(version_base="1.3", config_path=CONF_DIR, config_name="export")
def main(cfg: DictConfig) -> None:
    """Export, and print the code that opens the result."""
    print(run(cfg))


if __name__ == "__main__":
    run_command(main)
