"""Draw what a model computes: ``python -m conmim_lightning.visualize checkpoint=runs/... images=/my/images``.

Of a segmenter or detector, the predictions; of any other model, attention, similarity of patches, principal components,
nearest neighbours, and, of a pre-training run, which hidden patches match.
"""

from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from conmim_lightning.config.check import CONF_DIR, Config, check
from conmim_lightning.evaluate import run as evaluate
from conmim_lightning.files import check_writable
from conmim_lightning.runtime.errors import quiet_libraries
from conmim_lightning.runtime.launch import own_job, run_command
from conmim_lightning.runtime.results import print_existing
from conmim_lightning.runtime.trust import recorded_reports

_OWN = ("kind", "branch", "against", "layer", "heads", "patch", "neighbors", "gallery", "interpolate", "file_format")
_PREDICTIONS = ["predictions"]
_OF_FEATURES = {"against": None, "layer": -1, "heads": None, "patch": None, "interpolate": False, "file_format": "png"}


def run(cfg: DictConfig) -> list[Path]:
    """Draw, and return the paths of the pictures.

    Raises:
        ValueError: a fault of the configuration, the checkpoint or the images, or a kind that the model does not have.
    """
    config = check(cfg, "visualize")
    recorded = _recorded(config["checkpoint"])
    if any("predictions" in node for node in recorded_reports(recorded).values()):
        if config["kind"] not in (None, _PREDICTIONS):
            raise ValueError(
                f"kind must be [predictions] for a segmenter or detector, got {config['kind']}; other kinds are drawn"
                " of pre-training runs, classifiers and exported models"
            )
        _check_unused(config)
        evaluate(OmegaConf.masked_copy(cfg, [key for key in map(str, cfg) if key not in _OWN]))
        return sorted(Path(config["paths"]["run_dir"], "pictures").glob("*.png"))
    quiet_libraries()
    check_writable(config["paths"]["run_dir"])
    return _draw(config, recorded)


def _check_unused(config: Config) -> None:
    """Raise ValueError for options that drawings of predictions do not use."""
    given = [key for key, default in _OF_FEATURES.items() if config[key] != default]
    if given:
        raise ValueError(f"{', '.join(given)} concern features, but this checkpoint is of a segmenter or detector")


def _recorded(checkpoint: str) -> Config:
    """Return the recorded configuration of a run; empty for an exported model or a timm name."""
    from conmim_lightning.weights.checkpoint import is_run, read_checkpoint

    path = Path(checkpoint).expanduser()
    return read_checkpoint(path).get("run", {}).get("config", {}) if is_run(path) else {}


def _draw(config: Config, recorded: Config) -> list[Path]:
    from conmim_lightning.visualization.figures import Pictures, available
    from conmim_lightning.visualization.models import named_models

    models = named_models(config["checkpoint"], config["against"], config["branch"], config["trust"])
    source, decoder = _images(config, recorded, models[0].encoder.transform.decoder)
    pictures = Pictures(models, source, config, recorded, decoder)
    kinds = config["kind"] or available(models)
    return [pictures.save(kind, Path(config["paths"]["run_dir"])) for kind in kinds]


def _images(config: Config, recorded: Config, decoder: Any) -> tuple[Any, Any]:
    """Return the given images, or those of the run, and their decoder."""
    from hydra.utils import instantiate

    from conmim_lightning.data.sources.base import IndexedSource
    from conmim_lightning.data.sources.paths import open_images
    from conmim_lightning.evaluate import data_config

    if config["images"]:
        return open_images(config["images"], decoder.formats), decoder
    if not recorded:
        raise ValueError("images= is needed, as the model has no record of its images")
    changes = {key: value for key, value in config["data"].items() if key == "root"}  # the others concern predictions
    data = instantiate(data_config(config | {"data": changes}, recorded))
    data.prepare_data()
    source = data.open_source()
    if not isinstance(source, IndexedSource):
        raise ValueError("the run's images are a stream; name some with images=")
    print(f"images: {len(source):,} of {source.root}, on which the run was trained")
    return source, decoder


@hydra.main(version_base="1.3", config_path=CONF_DIR, config_name="visualize")
def main(cfg: DictConfig) -> None:
    """Draw, and print the paths of the pictures."""
    with own_job():
        paths = run(cfg)
    print_existing(paths)


if __name__ == "__main__":
    run_command(main)
