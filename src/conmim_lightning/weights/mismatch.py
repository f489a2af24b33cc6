"""How two sets of named tensors differ."""

from collections.abc import Mapping

from torch import Tensor


def mismatch(mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> str:
    """What keeps tensors from being loaded, in short; empty if nothing does.

    Args:
        mine: tensors of the model.
        theirs: tensors to load.
    """
    reshaped = [
        f"{name} {tuple(theirs[name].shape)} instead of {tuple(value.shape)}"
        for name, value in mine.items()
        if name in theirs and theirs[name].shape != value.shape
    ]
    absent, foreign = sorted(mine.keys() - theirs.keys()), sorted(theirs.keys() - mine.keys())
    if not (reshaped or absent or foreign):
        return ""
    listed = (*reshaped[:3], *(f"without {n}" for n in absent[:2]), *(f"with {n}" for n in foreign[:2]))
    counted = f"{len(reshaped)} tensors of another shape, {len(absent)} missing, {len(foreign)} unknown"
    return f"({counted}): {'; '.join(listed)}"
