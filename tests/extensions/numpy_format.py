"""An export format: weights as a NumPy archive, settings as JSON."""

import json
from pathlib import Path

import numpy as np

from conmim_lightning.weights.exported import ExportedModel, check_empty


class NumpyFormat:
    """Write ``weights.npz`` and ``model.json``.

    Args:
        half: store float16.
    """

    def __init__(self, *, half: bool = False) -> None:
        self.half = half

    def write(self, model: ExportedModel, output: Path) -> str:
        """Write the folder; ValueError if it is not empty."""
        check_empty(output)
        output.mkdir(parents=True, exist_ok=True)
        state = model.backbone.state_dict()
        arrays = {name: (value.half() if self.half else value).numpy() for name, value in state.items()}
        np.savez(output / "weights.npz", **arrays)
        settings = {"arguments": dict(model.arguments), "mean": list(model.mean), "std": list(model.std)}
        (output / "model.json").write_text(json.dumps(settings, indent=1))
        return f'numpy.load("{output}/weights.npz")'
