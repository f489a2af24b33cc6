"""Differences between two sets of named tensors."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

_SHORT, _LONG = 3, 20


class StateDiff(NamedTuple):
    """Differences that prevent loading.

    Attributes:
        missing: names that only the model has.
        unexpected: names that only the weights have.
        reshaped: names in both with different shapes: (shape in the weights, shape in the model).
    """

    missing: list[str]
    unexpected: list[str]
    reshaped: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]

    def __bool__(self) -> bool:
        """Return whether there is any difference."""
        return bool(self.missing or self.unexpected or self.reshaped)

    def describe(self) -> str:
        """Return a list of the names, up to twenty per kind, one line per kind."""
        kinds = (("missing", self.missing), ("unexpected", self.unexpected), ("reshaped", self._shapes()))
        return "\n".join(f"  {len(names)} {kind}: {_listed(names)}" for kind, names in kinds if names)

    def summary(self) -> str:
        """Return counts and the first few names in one line."""
        shapes = self._shapes()
        first = (
            *shapes[:_SHORT],
            *(f"without {n}" for n in self.missing[:2]),
            *(f"with {n}" for n in self.unexpected[:2]),
        )
        counts = f"{len(shapes)} tensors of another shape, {len(self.missing)} missing, {len(self.unexpected)} unknown"
        return f"({counts}): {'; '.join(first)}"

    def _shapes(self) -> list[str]:
        return [f"{name} {given} instead of {needed}" for name, (given, needed) in self.reshaped.items()]


def state_diff(model: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> StateDiff:
    """Compare names and shapes of two sets of tensors.

    Args:
        model: tensors of the model.
        weights: tensors to load.
    """
    reshaped = {
        name: (tuple(weights[name].shape), tuple(value.shape))
        for name, value in model.items()
        if name in weights and weights[name].shape != value.shape
    }
    return StateDiff(sorted(model.keys() - weights.keys()), sorted(weights.keys() - model.keys()), reshaped)


def check_checkpoint(model: Mapping[str, object], checkpoint: Mapping[str, Mapping[str, object]]) -> None:
    """Raise ValueError for a Lightning checkpoint of another architecture; only tensors are compared.

    Args:
        model: state dict of the task.
        checkpoint: Lightning checkpoint to load.
    """
    states = (model, checkpoint.get("state_dict", {}))
    tensors = ({name: value for name, value in state.items() if isinstance(value, Tensor)} for state in states)
    if difference := state_diff(*tensors):
        raise ValueError(f"the checkpoint is of another architecture {difference.summary()}")


def _listed(names: list[str]) -> str:
    more = f", ... and {len(names) - _LONG} more" if len(names) > _LONG else ""
    return ", ".join(names[:_LONG]) + more
