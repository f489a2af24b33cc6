"""Which parameters weight decay applies to."""

from collections.abc import Iterable, Sequence
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


def layer_id(name: str, depth: int) -> int:
    """Layer of a timm vision Transformer's parameter.

    official: embeddings 0, block i is i + 1, what follows the blocks depth + 1; a shared table of relative positions
    belongs to what follows.
    """
    if name.startswith("blocks."):
        return int(name.split(".")[1]) + 1
    embeds = (*NO_DECAY, "patch_embed", "mask_token", "norm_pre", "rope")
    return 0 if name.split(".")[0] in embeds else depth + 1


def layer_decay_groups(
    named_parameters: Iterable[tuple[str, Parameter]],
    *,
    depth: int,
    layer_decay: float,
    undecayed: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Parameter groups whose rate falls from the head towards the embeddings, each with and without weight decay.

    official: the rate is multiplied by layer_decay ** (depth + 1 - layer); kept as ``lr_scale`` in each group.

    Args:
        named_parameters: of the model; those without gradient are left out.
        depth: number of blocks.
        layer_decay: in (0, 1]; 1 gives every layer the same rate.
        undecayed: ends of names that weight decay does not apply to, besides the usual ones.

    Raises:
        ValueError: layer_decay is out of its range.
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay must lie in (0, 1], got {layer_decay}")
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in named_parameters:
        if not parameter.requires_grad:
            continue
        layer, decayed = layer_id(name, depth), decays(name, parameter) and not name.endswith(tuple(undecayed))
        if (layer, decayed) not in groups:
            group: dict[str, Any] = {"params": [], "lr_scale": layer_decay ** (depth + 1 - layer)}
            groups[layer, decayed] = group if decayed else group | {"weight_decay": 0.0}
        groups[layer, decayed]["params"].append(parameter)
    return [groups[key] for key in sorted(groups, key=lambda key: (key[0], not key[1]))]


def dense_groups(model: Any, *, layer_decay: float, undecayed: Sequence[str] = ()) -> list[dict[str, Any]]:
    """``layer_decay_groups`` of a model with a ``backbone`` within; whatever is put on it is as the last layer.

    Args:
        model: with a timm vision Transformer as its ``backbone``.
        layer_decay: see ``layer_decay_groups``.
        undecayed: see ``layer_decay_groups``.
    """
    within = {id(parameter): name for name, parameter in model.backbone.named_parameters()}

    def timms(name: str, parameter: Parameter) -> str:
        positions = name.rsplit(".", 1)[-1] in ("absolute", "prefix_position")  # of ``DenseVit``
        return within.get(id(parameter), "pos_embed" if positions else f"head.{name}")

    named = [(timms(name, parameter), parameter) for name, parameter in model.named_parameters()]
    return layer_decay_groups(named, depth=len(model.backbone.blocks), layer_decay=layer_decay, undecayed=undecayed)
