"""Pictures of models by kind, as files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from matplotlib.figure import Figure

from conmim_lightning.batches import PretrainBatch
from conmim_lightning.data.checks import check_at_least
from conmim_lightning.data.datasets.pretrain import PretrainDataset
from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.samplers.epoch import SampleKey
from conmim_lightning.data.sources.base import IndexedSource
from conmim_lightning.data.transforms.crop import RandomResizedCrop
from conmim_lightning.files import replacing
from conmim_lightning.visualization.inputs import Inputs, evenly_spaced, read_inputs
from conmim_lightning.visualization.maps import attention_panels, component_panels, similarity_panels
from conmim_lightning.visualization.matching import query_panels
from conmim_lightning.visualization.models import NamedModel
from conmim_lightning.visualization.panels import Panel, Row, draw_grid, with_common_limits
from conmim_lightning.visualization.retrieval import neighbor_panels

KINDS = ("attention", "similarity", "pca", "neighbors", "queries")
_SUFFIXES = ("png", "pdf", "svg")


def available(models: Sequence[NamedModel]) -> list[str]:
    """Return the kinds that all models have."""
    return [kind for kind in KINDS if kind != "queries" or all(model.task is not None for model in models)]


class Pictures:
    """Pictures of one or two models over the same images.

    Args:
        models: one model, or two to compare.
        source: images.
        config: settings, see ``conf/visualize.yaml``.
        recorded: recorded configuration of the first model's run; empty if it has none.
        decoder: decoder of the images.

    Raises:
        ValueError: a setting is out of its range.
    """

    def __init__(
        self,
        models: Sequence[NamedModel],
        source: IndexedSource,
        config: dict[str, Any],
        recorded: dict[str, Any],
        decoder: Decoder,
    ) -> None:
        if config["file_format"] not in _SUFFIXES:
            raise ValueError(f"file_format must be one of {', '.join(_SUFFIXES)}, got {config['file_format']!r}")
        check_at_least(1, **{key: config[key] for key in ("pictures", "gallery", "neighbors")})
        self.models, self.source, self.config, self.recorded = list(models), source, config, recorded
        self.decoder = decoder
        self._inputs: dict[tuple[str, int], Inputs] = {}

    def save(self, kind: str, folder: Path) -> Path:
        """Draw a kind of picture and return its path.

        Raises:
            ValueError: the models do not have this kind.
        """
        if kind not in available(self.models):
            raise ValueError(f"kind must be of {', '.join(available(self.models))} for this model, got {kind!r}")
        figure = getattr(self, f"_{kind}")()
        path = folder / f"{kind}.{self.config['file_format']}"
        with replacing(path) as temporary:
            figure.savefig(temporary)
        return path

    def _attention(self) -> Figure:
        settings = {key: self.config[key] for key in ("layer", "heads", "patch")}
        panels = [attention_panels(model.encoder, self._read(model), **settings) for model in self.models]
        blocks = len(self.models[0].encoder.backbone.blocks)  # type: ignore[arg-type]
        return self._grid(panels, f"attention in block {self.config['layer'] % blocks + 1} of {blocks}")

    def _similarity(self) -> Figure:
        patch = self.config["patch"]
        panels = [similarity_panels(model.encoder, self._read(model), patch=patch) for model in self.models]
        return self._grid(panels, "cosine of the marked patch with all patches, after the last block")

    def _pca(self) -> Figure:
        results = [component_panels(model.encoder, self._read(model)) for model in self.models]
        variance = [" + ".join(f"{100 * fraction:.0f} %" for fraction in fractions) for _, fractions in results]
        title = "principal components of all patch tokens; fraction of the variance: " + " and ".join(variance)
        return self._grid([panels for panels, _ in results], title)

    def _neighbors(self) -> Figure:
        gallery = [self._read(model, self.config["gallery"]) for model in self.models]
        queries, neighbors = self.config["pictures"], self.config["neighbors"]
        panels = [
            neighbor_panels(model.encoder, images, queries, neighbors)
            for model, images in zip(self.models, gallery, strict=True)
        ]
        title = f"nearest of {len(gallery[0].names)} images, cosine of the features"
        return self._grid(panels, title, names=[""] * len(panels[0]))

    def _queries(self) -> Figure:
        batch = self._crops()
        grids = {tuple(model.task.model.student.encoder.grid_size) for model in self.models if model.task}
        if len(grids) > 1:
            raise ValueError(f"kind=[queries] needs models with the same patches, got grids of {sorted(grids)}")
        panels = [query_panels(model.task, batch) for model in self.models]
        return self._grid(
            panels,
            "hidden patches: squares match their own key, arrows lead to the key that they match",
            names=[""] * len(panels[0]),
        )

    def _crops(self) -> PretrainBatch:
        """Return whole images with mask and perturbation as in training."""
        data = self.recorded["data"]
        crop = RandomResizedCrop(data["crop"]["size"], scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0)
        masking, perturbation = instantiate(data["masking"]), instantiate(data["perturbation"])
        dataset = PretrainDataset(
            self.source, decoder=self.decoder, crop=crop, perturbation=perturbation, masking=masking, seed=0
        )
        indices = evenly_spaced(len(self.source), self.config["pictures"])
        batch = dataset.collate([dataset[SampleKey(0, index)] for index in indices])
        for line in filter(None, batch.broken):
            print(f"cannot be read, another image stands in: {line}")
        return batch

    def _read(self, model: NamedModel, count: int | None = None) -> Inputs:
        """Return images for a model, which are read once."""
        key = model.name, count or self.config["pictures"]
        if key not in self._inputs:
            self._inputs[key], broken = read_inputs(model.encoder, self.source, key[1])
            for line in broken:
                print(f"cannot be read: {line}")
        return self._inputs[key]

    def _grid(self, panels: list[list[list[Panel]]], title: str, names: Sequence[str] | None = None) -> Figure:
        """Return the figure of all images; below each row of the first model lies that of the second."""
        labels = names if names is not None else [Path(name).stem[:24] for name in self._read(self.models[0]).names]
        rows: list[Row] = []
        for position, label in enumerate(labels):
            compared = with_common_limits([of_model[position] for of_model in panels])
            for model, row in zip(self.models, compared, strict=True):
                words = [label, model.name] if len(self.models) > 1 else [label]
                rows.append(("\n".join(filter(None, words)), row))
        full = f"{title}\n{' and '.join(model.name for model in self.models)}"
        with torch.no_grad():
            return draw_grid(rows, full, interpolate=self.config["interpolate"])
