"""Parameter groups: which parameters have weight decay, and layer-wise learning rates.

timm's ``param_groups_layer_decay`` is not used because it differs from the official groups: it puts a shared table of
relative positions into the embedding layer, and it does not support heads outside the backbone.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn
from torch.nn import Parameter

NO_DECAY = ("cls_token", "pos_embed", "reg_token")
"""official: cls_token and pos_embed. Register tokens, which it lacks, are treated like the class token."""

ParamGroups = list[dict[str, Any]]
"""Parameter groups in the form that torch's optimizers accept."""


def has_decay(name: str, parameter: Parameter) -> bool:
    """Return whether weight decay applies to a parameter.

    official: it does not apply to one-dimensional tensors (norms, layer scale, biases), class token and absolute
    positions; it applies to the table of relative positions, mask token, patch embedding and projector.
    """
    return parameter.ndim > 1 and not name.endswith(".bias") and name.rsplit(".", 1)[-1] not in NO_DECAY


def decay_groups(named_parameters: Iterable[tuple[str, Parameter]]) -> ParamGroups:
    """Return two groups, with and without weight decay; parameters that need no gradient are left out.

    The first group uses the optimizer's own ``weight_decay``, the second sets it to 0.
    """
    trained = [(name, parameter) for name, parameter in named_parameters if parameter.requires_grad]
    groups: ParamGroups = [
        {"params": [p for name, p in trained if has_decay(name, p)]},
        {"params": [p for name, p in trained if not has_decay(name, p)], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def layer_id(name: str, depth: int) -> int:
    """Return the layer index of a parameter of a timm vision Transformer, for layer-wise learning rates.

    official: embeddings are 0, block i is i + 1, everything after the blocks is depth + 1, as is a shared table of
    relative positions.
    """
    if name.startswith("blocks."):
        return int(name.split(".")[1]) + 1
    embeddings = (*NO_DECAY, "patch_embed", "mask_token", "norm_pre", "rope")
    return 0 if name.split(".")[0] in embeddings else depth + 1


def layer_decay_groups(
    named_parameters: Iterable[tuple[str, Parameter]],
    *,
    depth: int,
    layer_decay: float,
    no_weight_decay: Sequence[str] = (),
) -> ParamGroups:
    """Group parameters by layer, each with and without weight decay; the learning rate falls towards the embeddings.

    official: the learning rate is multiplied by layer_decay ** (depth + 1 - layer), stored as ``lr_scale`` per group.

    Args:
        named_parameters: parameters of the model; those that need no gradient are left out.
        depth: number of blocks.
        layer_decay: factor of the learning rate per layer, in (0, 1]; 1 gives every layer the same learning rate.
        no_weight_decay: name suffixes of further parameters without weight decay.

    Raises:
        ValueError: layer_decay is out of its range.
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay must lie in (0, 1], got {layer_decay}")
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in named_parameters:
        if not parameter.requires_grad:
            continue
        layer, decays = layer_id(name, depth), has_decay(name, parameter) and not name.endswith(tuple(no_weight_decay))
        if (layer, decays) not in groups:
            group: dict[str, Any] = {"params": [], "lr_scale": layer_decay ** (depth + 1 - layer)}
            groups[layer, decays] = group if decays else group | {"weight_decay": 0.0}
        groups[layer, decays]["params"].append(parameter)
    return [groups[key] for key in sorted(groups, key=lambda key: (key[0], not key[1]))]


def dense_groups(
    model: nn.Module, backbone: nn.Module, *, layer_decay: float, no_weight_decay: Sequence[str] = ()
) -> ParamGroups:
    """Apply ``layer_decay_groups`` to a model that contains a backbone; all other modules are the last layer.

    Args:
        model: the whole model.
        backbone: timm vision Transformer within ``model``.
        layer_decay: see ``layer_decay_groups``.
        no_weight_decay: see ``layer_decay_groups``.
    """
    backbone_names = {id(parameter): name for name, parameter in backbone.named_parameters()}

    def timm_name(name: str, parameter: Parameter) -> str:
        is_position = name.rsplit(".", 1)[-1] in ("absolute", "prefix_position")  # of ``DenseVit``
        return backbone_names.get(id(parameter), "pos_embed" if is_position else f"head.{name}")

    named = [(timm_name(name, parameter), parameter) for name, parameter in model.named_parameters()]
    depth = len(backbone.get_submodule("blocks"))  # type: ignore[arg-type]
    return layer_decay_groups(named, depth=depth, layer_decay=layer_decay, no_weight_decay=no_weight_decay)
