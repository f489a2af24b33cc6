"""Loading of weights into a backbone, with a report of everything that does not fit."""

from collections.abc import Sequence
from typing import cast

from torch import nn

from conmim_lightning.weights.names import fit_attention
from conmim_lightning.weights.positions import fit_positions
from conmim_lightning.weights.read import Weights
from conmim_lightning.weights.state_diff import StateDiff, state_diff

EVERYTHING = "*"
_HEAD = {"head.weight", "head.bias"}


def load_weights(backbone: nn.Module, weights: Weights, *, allow_mismatch: Sequence[str] = ()) -> StateDiff:
    """Load weights into a timm model and report what was not loaded.

    Two mismatches are always allowed: the weights have a final norm that the backbone lacks because it pools first
    (official: the norm of mean-pooled features is re-initialised); only one of both has that norm and a classifier.

    Args:
        backbone: timm model.
        weights: weights to load.
        allow_mismatch: names, or prefixes up to a dot, that may be missing, unexpected or reshaped, such as "head";
            the backbone keeps its own values for them. "*" allows everything.

    Returns:
        What was not loaded.

    Raises:
        ValueError: the weights are of another architecture; missing, unexpected and reshaped names are listed.
    """
    _check_arguments(backbone, weights)
    model = backbone.state_dict()
    grid = cast(tuple[int, int], backbone.get_submodule("patch_embed").grid_size)
    state = fit_positions(fit_attention(weights.state, model), model, grid)
    difference = state_diff(model, state)
    if isinstance(allow_mismatch, str):
        raise ValueError(f"allow_mismatch must be a list such as [{allow_mismatch}], got {allow_mismatch!r}")
    rejected = _rejected(difference, _always_allowed(difference), tuple(allow_mismatch))
    if rejected:
        raise ValueError(
            f"the weights of {weights.origin} are of another architecture:\n{rejected.describe()}\n"
            f"choose the backbone that they belong to{_advice(rejected)}"
        )
    matching = {name: value for name, value in state.items() if name in model and name not in difference.reshaped}
    if not matching:
        raise ValueError(f"nothing of {weights.origin} fits the backbone:\n{difference.describe()}")
    backbone.load_state_dict(matching, strict=False)
    return difference


def _always_allowed(difference: StateDiff) -> tuple[str, ...]:
    """Return prefixes of names that fine-tuning always leaves out or re-initialises."""
    allowed = ["norm"] if any(name.startswith("fc_norm.") for name in difference.missing) else []
    if set(difference.missing) >= _HEAD or set(difference.unexpected) >= _HEAD:
        allowed += ["head", "fc_norm"]
    return tuple(allowed)


def _rejected(difference: StateDiff, always: tuple[str, ...], allow_mismatch: tuple[str, ...]) -> StateDiff:
    if EVERYTHING in allow_mismatch:
        return StateDiff([], [], {})
    allowed = (*always, *allow_mismatch)
    return StateDiff(
        [name for name in difference.missing if not _is_below(name, allowed)],
        [name for name in difference.unexpected if not _is_below(name, allowed)],
        {name: shapes for name, shapes in difference.reshaped.items() if not _is_below(name, allow_mismatch)},
    )


def _is_below(name: str, prefixes: Sequence[str]) -> bool:
    """Return whether a name equals a prefix or continues it after a dot."""
    return any(f"{name}.".startswith(f"{prefix}.") for prefix in prefixes)


def _advice(rejected: StateDiff) -> str:
    """Return how to allow the mismatch; empty if that would allow all blocks."""
    prefixes = sorted({name.split(".")[0] for name in [*rejected.missing, *rejected.unexpected, *rejected.reshaped]})
    if "blocks" in prefixes:
        return ""
    return f", or allow names by their prefixes, backbone.allow_mismatch=[{','.join(prefixes)}]"


def _check_arguments(backbone: nn.Module, weights: Weights) -> None:
    """Raise ValueError if the weights record another number of heads, which shapes do not reveal."""
    needed = cast(int, backbone.get_submodule("blocks.0.attn").num_heads)
    given = weights.arguments.get("num_heads", needed)
    if given != needed:
        raise ValueError(
            f"the weights of {weights.origin} are of another architecture: num_heads {given} instead of {needed}"
        )
