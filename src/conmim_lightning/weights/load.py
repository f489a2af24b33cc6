"""Loading weights into a backbone, with an account of whatever does not fit."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from conmim_lightning.weights.mismatch import Difference, difference
from conmim_lightning.weights.positions import fit_positions
from conmim_lightning.weights.read import Weights

EVERYTHING = "*"


def load_weights(backbone: nn.Module, weights: Weights, *, allow: Sequence[str] = ()) -> Difference:
    """Load weights.

    Always allowed, as the recipe has it: a final norm that the backbone lacks because it pools first (official: the
    norm of mean-pooled features starts anew), and that norm and a classifier that the weights lack.

    Args:
        backbone: timm model.
        weights: what to load.
        allow: names, or their beginnings up to a point, that may be missing, unexpected or reshaped besides, such as
            "head"; those keep what the backbone has. "*" allows everything.

    Returns:
        What was left out or left as it was.

    Raises:
        ValueError: the weights are of another architecture; missing, unexpected and reshaped names are listed.
    """
    _check_arguments(backbone, weights)
    mine = backbone.state_dict()
    state = fit_positions(weights.state, mine, _grid(backbone))
    found = difference(mine, state)
    if isinstance(allow, str):
        raise ValueError(f"allow must be a list of names, such as [{allow}], got the text {allow!r}")
    refused = _refused(found, _usual(found), tuple(allow))
    if refused:
        raise ValueError(
            f"the weights of {weights.origin} are of another architecture:\n{refused.told()}\n"
            f"choose the backbone that they are of{_example(refused)}"
        )
    kept = {name: value for name, value in state.items() if name in mine and name not in found.reshaped}
    if not kept:
        raise ValueError(f"nothing of {weights.origin} fits the backbone:\n{found.told()}")
    backbone.load_state_dict(kept, strict=False)
    return found


def _usual(found: Difference) -> tuple[str, ...]:
    """Names that the recipe itself leaves out or starts anew."""
    usual = ["norm"] if any(name.startswith("fc_norm.") for name in found.missing) else []
    lacks_head = {"head.weight", "head.bias"} <= set(found.missing)
    if lacks_head:
        usual += ["head", "fc_norm"]
    if {"head.weight", "head.bias"} <= set(found.unexpected):  # features alone are wanted
        usual += ["head", "fc_norm"]
    return tuple(usual)


def _refused(found: Difference, usual: tuple[str, ...], allow: tuple[str, ...]) -> Difference:
    if EVERYTHING in allow:
        return Difference([], [], {})
    passes = (*usual, *allow)
    return Difference(
        [name for name in found.missing if not _below(name, passes)],
        [name for name in found.unexpected if not _below(name, passes)],
        {name: shapes for name, shapes in found.reshaped.items() if not _below(name, allow)},
    )


def _below(name: str, places: Sequence[str]) -> bool:
    """Whether a name is one of the places or lies below one."""
    return any(f"{name}.".startswith(f"{place}.") for place in places)


def _example(refused: Difference) -> str:
    """How to allow it; nothing where that would let all blocks pass."""
    places = sorted({name.split(".")[0] for name in [*refused.missing, *refused.unexpected, *refused.reshaped]})
    return "" if "blocks" in places else f", or allow names by their beginnings, backbone.allow=[{','.join(places)}]"


def _check_arguments(backbone: nn.Module, weights: Weights) -> None:
    """Refuse what shapes do not show.

    Raises:
        ValueError: the weights' own account of themselves names another number of heads, or the like.
    """
    blocks: Any = backbone.get_submodule("blocks")
    attention = blocks[0].get_submodule("attn")
    mine = {"num_heads": attention.num_heads}
    told = [
        f"{name} {weights.arguments[name]} instead of {mine[name]}"
        for name in mine
        if weights.arguments.get(name, mine[name]) != mine[name]
    ]
    if told:
        raise ValueError(f"the weights of {weights.origin} are of another architecture: {', '.join(told)}")


def _grid(backbone: Any) -> tuple[int, int]:
    return backbone.patch_embed.grid_size
