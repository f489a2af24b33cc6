"""Names of a backbone's tensors in the checkpoints of other projects, converted to timm's.

Recognised are timm's and the official names, and those of Hugging Face's ViT, BEiT and DINOv2, below any prefix of
wrappers (``module.``, ``backbone.``, ``teacher.backbone.``, ...). What lies outside of the backbone, such as a decoder
or a projection head, is left out.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_TIMM_ANCHOR = "patch_embed.proj.weight"
_HF_ANCHOR = "embeddings.patch_embeddings.projection.weight"
_PRETEXT_ONLY = ("mask_token", "lm_head.", "projectors.", "decoder_", "predictor.", "embeddings.mask_token")
_WRAPPERS = ("module.", "_orig_mod.")
_TEACHER, _STUDENT = ("teacher", "ema", "target"), ("student", "online")

_HF_RULES: tuple[tuple[str, str], ...] = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^(encoder\.relative_position_bias|shared_position_bias)\.", "rel_pos_bias."),
    (r"^(encoder\.layer|layers)\.(\d+)\.", r"blocks.\2."),
    (r"attention\.attention\.relative_position_bias\.", "attn."),
    (r"(?<=\d\.)relative_position_bias\.", "attn."),
    (r"attention\.(output\.dense|o_proj)\.", "attn.proj."),
    (r"attention\.(attention\.)?(query|q_proj)\.", "attn.q."),
    (r"attention\.(attention\.)?(key|k_proj)\.", "attn.k."),
    (r"attention\.(attention\.)?(value|v_proj)\.", "attn.v."),
    (r"layernorm_before\.", "norm1."),
    (r"layernorm_after\.", "norm2."),
    (r"(intermediate\.dense|mlp\.fc1)\.", "mlp.fc1."),
    (r"(?<=\d\.)output\.dense\.|mlp\.fc2\.", "mlp.fc2."),
    (r"lambda_([12])$", r"gamma_\1"),
    (r"layer_scale([12])\.lambda1$", r"ls\1.gamma"),
    (r"^pooler\.layernorm\.", "fc_norm."),
    (r"^layernorm\.", "norm."),
)
"""Replacements of Hugging Face's names, old and new ones, in this order."""


def backbone_names(state: Mapping[str, Tensor], branch: str) -> dict[str, Tensor]:
    """Return the tensors of the backbone in a state dict by timm's names.

    Args:
        state: tensors by the names of their project.
        branch: which of several backbones to take: "teacher" (also called ema or target) or "student".

    Raises:
        ValueError: there are several backbones, and their names do not say which is which.
    """
    prefixes = {
        name[: -len(anchor)]: anchor
        for name in state
        for anchor in (_TIMM_ANCHOR, _HF_ANCHOR)
        if name.endswith(anchor) and name[: -len(anchor)][-1:] in ("", ".")
    }
    if not prefixes:
        return _without_pretext(_unwrapped(state))
    prefix = _chosen(sorted(prefixes), branch)
    inner = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    outer = {name: value for name, value in state.items() if name.startswith("classifier.")}
    if prefixes[prefix] == _HF_ANCHOR:
        head = {f"head.{name.removeprefix('classifier.')}": value for name, value in outer.items()}
        inner = _joined({_from_hugging_face(name): value for name, value in _without_pretext(inner).items()}) | head
        inner = {name: value for name, value in inner.items() if not name.startswith("pooler.")}
    return _without_pretext(inner)


def hugging_face_state(target: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a timm model's tensors by the names of one of Hugging Face's models.

    What timm lacks is zero, such as the token for masks; a ViT's pooler becomes the identity.

    Args:
        target: state dict of Hugging Face's model.
        state: tensors by timm's names.

    Raises:
        ValueError: Hugging Face's model has no place for a tensor, or another shape.
    """
    result, used = dict[str, Tensor](), set[str]()
    for name, value in target.items():
        own = _from_hugging_face(re.sub(r"^(beit|vit|dinov2)\.", "", name)).replace("classifier.", "head.")
        sources, tensor = _of_timm(own, state)
        used |= sources
        if tensor is None:
            tensor = torch.eye(len(value)) if name.endswith("pooler.dense.weight") else torch.zeros_like(value)
        result[name] = tensor.clone()
    if rest := [name for name in state if name not in used]:
        raise ValueError(f"Hugging Face's model has no place for {len(rest)} tensors, such as {', '.join(rest[:3])}")
    if other := [name for name, value in target.items() if result[name].shape != value.shape]:
        raise ValueError(f"Hugging Face's model has another shape of {', '.join(other[:3])}")
    return result


def fit_attention(state: Mapping[str, Tensor], model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert biases of attention and layer scales to the names of a model, if both forms mean the same.

    ``q_bias`` and ``v_bias`` (BEiT) are a ``qkv.bias`` whose keys have no bias. ``gamma_1`` (BEiT) is ``ls1.gamma``.

    Args:
        state: tensors by timm's names.
        model: state dict of the timm model.
    """
    fitted = dict(state)
    for name in list(state):
        if name.endswith("attn.q_bias") and name not in model:
            block = name.removesuffix("q_bias")
            if f"{block}qkv.bias" in model and f"{block}v_bias" in fitted:
                query, value = fitted.pop(name), fitted.pop(f"{block}v_bias")
                fitted[f"{block}qkv.bias"] = torch.cat([query, torch.zeros_like(query), value])
        elif name.endswith("attn.qkv.bias") and name not in model:
            block = name.removesuffix("qkv.bias")
            query, key, value = fitted[name].chunk(3)
            if f"{block}q_bias" in model and not key.any():  # softmax ignores a bias of the keys, but only per query
                del fitted[name]
                fitted |= {f"{block}q_bias": query, f"{block}v_bias": value}
        elif (other := _other_scale(name)) and name not in model and other in model:
            fitted[other] = fitted.pop(name)
    return fitted


def _chosen(prefixes: list[str], branch: str) -> str:
    """Return the prefix of the backbone to take."""
    if len(prefixes) == 1:
        return prefixes[0]
    words = _TEACHER if branch == "teacher" else _STUDENT
    matching = [prefix for prefix in prefixes if any(word in prefix for word in words)]
    if len(matching) != 1:
        raise ValueError(f"there are several backbones, {', '.join(map(repr, prefixes))}; which is the {branch}?")
    return matching[0]


def _unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove prefixes that all names have."""
    tensors = dict(state)
    for prefix in _WRAPPERS * 2:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def _without_pretext(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out parameters of the pretext task, and the official tables of position indices."""
    return {
        name: value
        for name, value in state.items()
        if not name.startswith(_PRETEXT_ONLY) and not name.endswith("relative_position_index")
    }


def _from_hugging_face(name: str) -> str:
    for pattern, replacement in _HF_RULES:
        name = re.sub(pattern, replacement, name)
    return name


def _joined(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join queries, keys and values; without a bias of the keys, keep the others apart, as BEiT does."""
    joined = {name: value for name, value in state.items() if not re.search(r"attn\.[qkv]\.", name)}
    for name in state:
        if not name.endswith("attn.q.weight"):
            continue
        block = name.removesuffix("q.weight")
        joined[f"{block}qkv.weight"] = torch.cat([state[f"{block}{kind}.weight"] for kind in "qkv"])
        biases = [state.get(f"{block}{kind}.bias") for kind in "qkv"]
        query, key, value = biases
        if query is not None and key is not None and value is not None:
            joined[f"{block}qkv.bias"] = torch.cat([query, key, value])
        elif query is not None and value is not None:
            joined |= {f"{block}q_bias": query, f"{block}v_bias": value}
    return joined


def _other_scale(name: str) -> str:
    """Return the other name of a layer scale; empty for anything else."""
    if match := re.search(r"gamma_([12])$", name):
        return name[: match.start()] + f"ls{match[1]}.gamma"
    if match := re.search(r"ls([12])\.gamma$", name):
        return name[: match.start()] + f"gamma_{match[1]}"
    return ""


def _of_timm(name: str, state: Mapping[str, Tensor]) -> tuple[set[str], Tensor | None]:
    """Return the names of timm that a converted name stands for, and its tensor; None if timm has none."""
    match = re.fullmatch(r"(.*attn\.)([qkv])\.(weight|bias)", name)
    if match is None:
        return {name}, state.get(name)
    block, kind, leaf = match.groups()
    if f"{block}qkv.{leaf}" in state:
        return {f"{block}qkv.{leaf}"}, state[f"{block}qkv.{leaf}"].chunk(3)["qkv".index(kind)]
    return {f"{block}{kind}_bias"}, state.get(f"{block}{kind}_bias")
