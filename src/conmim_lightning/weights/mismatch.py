"""How two sets of named tensors differ."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

_SHORT, _LONG = 3, 20


class Difference(NamedTuple):
    """What keeps tensors from being loaded.

    Attributes:
        missing: names that only the model has.
        unexpected: names that only the weights have.
        reshaped: names of both with another shape, by name: theirs, mine.
    """

    missing: list[str]
    unexpected: list[str]
    reshaped: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.missing or self.unexpected or self.reshaped)

    def told(self) -> str:
        """All names, up to twenty of a kind, a line each kind."""
        shapes = [f"{name} {theirs} instead of {mine}" for name, (theirs, mine) in self.reshaped.items()]
        kinds = (("missing", self.missing), ("unexpected", self.unexpected), ("reshaped", shapes))
        return "\n".join(f"  {len(names)} {kind}: {_listed(names)}" for kind, names in kinds if names)


def difference(mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> Difference:
    """Compare names and shapes.

    Args:
        mine: tensors of the model.
        theirs: tensors to load.
    """
    shapes = {
        name: (tuple(theirs[name].shape), tuple(value.shape))
        for name, value in mine.items()
        if name in theirs and theirs[name].shape != value.shape
    }
    return Difference(sorted(mine.keys() - theirs.keys()), sorted(theirs.keys() - mine.keys()), shapes)


def mismatch(mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> str:
    """What keeps tensors from being loaded, in short; empty if nothing does.

    Args:
        mine: tensors of the model.
        theirs: tensors to load.
    """
    found = difference(mine, theirs)
    if not found:
        return ""
    reshaped = [f"{name} {given} instead of {needed}" for name, (given, needed) in found.reshaped.items()]
    absent, foreign = found.missing, found.unexpected
    listed = (*reshaped[:_SHORT], *(f"without {n}" for n in absent[:2]), *(f"with {n}" for n in foreign[:2]))
    counted = f"{len(reshaped)} tensors of another shape, {len(absent)} missing, {len(foreign)} unknown"
    return f"({counted}): {'; '.join(listed)}"


def check_checkpoint(mine: Mapping[str, Any], checkpoint: Mapping[str, Any]) -> None:
    """Raise ValueError for a Lightning checkpoint of another architecture; what is no tensor is not compared.

    Args:
        mine: state of the task.
        checkpoint: what is about to be loaded.
    """
    states = (mine, checkpoint.get("state_dict", {}))
    tensors = ({name: value for name, value in state.items() if isinstance(value, Tensor)} for state in states)
    if told := mismatch(*tensors):
        raise ValueError(f"the checkpoint is of another architecture {told}")


def _listed(names: list[str]) -> str:
    more = f", ... and {len(names) - _LONG} more" if len(names) > _LONG else ""
    return ", ".join(names[:_LONG]) + more
