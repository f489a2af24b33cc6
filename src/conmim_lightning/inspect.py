"""Inspect an image collection: ``python -m conmim_lightning.inspect data=folder data.root=/my/images``.

Read every image once, in parallel. Report counts, formats, sizes, broken files, exact and near duplicates and, with a
checkpoint, images with similar features. Write lists, a contact sheet and ``exclude.tsv`` for ``data.exclude``.
"""

import os
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from conmim_lightning.config.check import CONF_DIR, check
from conmim_lightning.runtime.errors import quiet_libraries
from conmim_lightning.runtime.launch import run_command
from conmim_lightning.runtime.results import print_existing


def run(cfg: DictConfig) -> dict[str, Any]:
    """Check a composed configuration, inspect its collection, print the report and return it.

    Raises:
        ValueError: a fault of the configuration or the data.
    """
    config = check(cfg, "inspect")
    from hydra.utils import instantiate

    from conmim_lightning.data.inspection.report import format_report

    quiet_libraries()
    inspection = instantiate(config["inspect"])
    os.makedirs(inspection.output, exist_ok=True)
    encoder = _Encoder(config["checkpoint"], config["trust"]) if config["checkpoint"] else None
    data = instantiate(config["data"])
    data.prepare_data()
    if hasattr(data, "report_faults"):
        data.report_faults()
    source = data.open_source()
    if encoder is not None and not hasattr(data, "probes"):
        raise ValueError("features are compared only for pre-training collections: data=folder and the like")
    images, findings = inspection.inspect(source, data.decoder, getattr(data, "annotation_check", None))
    if encoder is not None:
        features, indices = encoder.features(data, source, findings.distinct(len(source)))
        inspection.add_similar(findings, features, indices)
    report = inspection.write(images, findings, source, data.decoder)
    print(format_report(report))
    return report


class _Encoder:
    """The teacher's encoder of a pre-training run.

    Args:
        path: checkpoint of the run.

    Raises:
        ValueError: the file is not a checkpoint of a pre-training run.
    """

    def __init__(self, path: str, trust: list[str]) -> None:
        from conmim_lightning.runtime.restore import restored_task

        self.task, checkpoint = restored_task(path, trust=trust)
        self.task.eval()
        self.size = checkpoint["run"]["config"]["data"]["crop"]["size"]

    def features(self, data: Any, source: Any, indices: Any) -> tuple[Any, Any]:
        """Return (M, D) float32 unit vectors, mean patch tokens of images' central squares; and (M,) image indices."""
        import torch
        from tqdm import tqdm

        from conmim_lightning.data.datasets.probes import ProbeData
        from conmim_lightning.data.loaders import evaluation_loader
        from conmim_lightning.data.sources.base import Subset

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.task.to(device)
        probe = ProbeData(decoder=data.decoder, size=self.size, batch_size=data.probes.batch_size, limits={})
        squares = probe.squares(Subset(source, indices))
        loader = evaluation_loader(squares, batch_size=probe.batch_size, num_workers=data.num_workers)
        features, positions = [], []
        with torch.inference_mode(), tqdm(total=len(indices), desc="encoding", unit="img", leave=False) as bar:
            for batch in loader:
                readable = torch.tensor([not reason for reason in batch.broken])
                tokens = self.task(self.task.perturbation.normalize(batch.image[readable].to(device))).mean(1)
                features.append(torch.nn.functional.normalize(tokens.float(), dim=-1).cpu())
                positions.append(batch.index[readable])
                bar.update(len(batch.index))
        return torch.cat(features).numpy(), indices[torch.cat(positions).numpy()]


@hydra.main(version_base="1.3", config_path=CONF_DIR, config_name="inspect")
def main(cfg: DictConfig) -> None:
    """Inspect, and print the paths of the files."""
    run(cfg)
    print()
    files = sorted(Path(cfg.inspect.output).iterdir())
    print_existing(path for path in files if path.suffix in (".tsv", ".json", ".png"))


if __name__ == "__main__":
    run_command(main)
