"""Look at a collection: ``python -m conmim_lightning.inspect data=folder data.root=/my/images``.

Reads every image once, in parallel: counts, formats, sizes, broken files, duplicates of bytes and of looks, and, given
a checkpoint, of the teacher's features. Writes lists, a contact sheet and ``exclude.tsv`` for ``data.exclude``.
"""

import os
from typing import Any

import hydra
from omegaconf import DictConfig

from conmim_lightning.config import CONF_DIR, check
from conmim_lightning.messages import quiet_libraries, told_plainly
from conmim_lightning.resolvers import register_resolvers
from conmim_lightning.train import restored_task


def run(cfg: DictConfig) -> dict[str, Any]:
    """Check a composed configuration, inspect its collection, print the account and return it.

    Raises:
        ValueError: a fault of the configuration or the data.
    """
    plain = check(cfg)
    from hydra.utils import instantiate

    quiet_libraries()
    inspection = instantiate(plain["inspect"])
    os.makedirs(inspection.output, exist_ok=True)
    encoder = _Encoder(plain["checkpoint"]) if plain["checkpoint"] else None
    data = instantiate(plain["data"])
    data.prepare_data()
    source = data.find_source()
    if encoder is not None and not hasattr(data, "probes"):
        raise ValueError("features are compared of collections for pre-training: data=folder and the like")
    found, findings = inspection.look(source, data.decoder, getattr(data, "annotation_faults", None))
    if encoder is not None:
        numbers = findings.others(len(source))
        features, encoded = encoder.features(data, source, numbers)
        inspection.compare(findings, features, encoded)
    account = inspection.write(found, findings, source, data.decoder)
    print(inspection.told(account))
    return account


class _Encoder:
    """The teacher of a pre-training run.

    Args:
        path: checkpoint of the run.

    Raises:
        ValueError: the file is no such checkpoint.
    """

    def __init__(self, path: str) -> None:
        self.task, checkpoint = restored_task(path)
        self.task.eval()
        self.size = checkpoint["run"]["config"]["data"]["crop"]["size"]

    def features(self, data: Any, source: Any, numbers: Any) -> tuple[Any, Any]:
        """(M, D) float32 of unit length, mean patch tokens of the images' central squares; and (M,) whose they are."""
        import torch
        from tqdm import tqdm

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.task.to(device)
        found, whose = [], []
        with torch.inference_mode(), tqdm(total=len(numbers), desc="encoding", unit="img", leave=False) as bar:
            for batch in data.probes.squares(source, numbers, self.size, num_workers=data.num_workers):
                images = self.task.perturbation.normalize(batch.image.to(device))
                tokens = self.task(images).mean(1)
                found.append(torch.nn.functional.normalize(tokens.float(), dim=-1).cpu())
                whose.append(batch.index)
                bar.update(len(tokens))
        return torch.cat(found).numpy(), torch.cat(whose).numpy()


@hydra.main(version_base="1.3", config_path=CONF_DIR, config_name="inspect")
def main(cfg: DictConfig) -> None:
    """Inspect and say where the files are."""
    run(cfg)
    print()
    for name in sorted(os.listdir(cfg.inspect.output)):
        if name.endswith((".tsv", ".json", ".png")):
            print(os.path.relpath(os.path.join(cfg.inspect.output, name)))


if __name__ == "__main__":
    register_resolvers()
    with told_plainly():
        main()
