"""Which parameters weight decay applies to."""

from collections.abc import Iterable
from typing import Any

from torch.nn import Parameter

NO_DECAY = ("cls_token", "pos_embed", "reg_token")
"""official: cls_token and pos_embed; register tokens, which the official model lacks, are treated alike."""


def decays(name: str, parameter: Parameter) -> bool:
    """Whether weight decay applies.

    official: not to one-dimensional tensors (norms, layer scale, biases), class token and absolute positions; but to
    the table of relative positions, the mask token, the patch embedding and the projector.
    """
    return parameter.ndim > 1 and not name.endswith(".bias") and name.rsplit(".", 1)[-1] not in NO_DECAY


def decay_groups(named_parameters: Iterable[tuple[str, Parameter]]) -> list[dict[str, Any]]:
    """Two parameter groups, with and without weight decay.

    The first takes the optimizer's own ``weight_decay``; the second sets it to 0. Parameters without gradient are left
    out.
    """
    trained = [(name, parameter) for name, parameter in named_parameters if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for name, p in trained if decays(name, p)]},
        {"params": [p for name, p in trained if not decays(name, p)], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
