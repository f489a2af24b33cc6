"""Architectures in the configurations of transformers: BEiT, ViT and DINOv2."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import nn

_COMMON = {
    "embed_dim": "hidden_size",
    "depth": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "img_size": "image_size",
    "patch_size": "patch_size",
    "in_chans": "num_channels",
}
_DEFAULTS = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 224}
_DEFAULTS |= {"patch_size": 16, "num_channels": 3, "layer_norm_eps": 1e-12}
_MLP_RATIO = 4


def backbone_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of ``models.backbones.vit`` for a configuration of transformers.

    The classifier is included for BEiT and ViT; DINOv2's takes other features and is left out.

    Args:
        config: content of ``config.json``.

    Raises:
        ValueError: the architecture is none of BEiT, ViT and DINOv2, or a variant that timm does not build.
    """
    kind, settings = config.get("model_type"), {**_DEFAULTS, **config}
    arguments = {name: settings[key] for name, key in _COMMON.items()}
    if kind == "beit":
        arguments |= _beit_arguments(settings)
    elif kind in ("vit", "dinov2"):
        scale = settings.get("layerscale_value", 1.0) if kind == "dinov2" else None
        arguments |= {"positions": "absolute", "init_values": scale, "shared_rel_pos_bias": False}
    else:
        raise ValueError(f"model_type {kind!r} of transformers is not read; allowed are beit, vit and dinov2")
    if settings.get("use_swiglu_ffn") or settings.get("hidden_act", "gelu") != "gelu":
        raise ValueError("only plain blocks with GELU are read; the configuration has another feed-forward network")
    ratio = settings.get("mlp_ratio") or settings.get("intermediate_size", 0) / arguments["embed_dim"] or _MLP_RATIO
    details = {"mlp_ratio": ratio, "norm_layer": partial(nn.LayerNorm, eps=settings["layer_norm_eps"])}
    classes = class_names(config) if kind != "dinov2" else []
    return arguments | {"timm_args": details, "num_classes": len(classes)}


def class_names(config: Mapping[str, Any]) -> Sequence[str]:
    """Return the names of the classifier's classes; empty without a classifier."""
    if not any("ImageClassification" in str(name) for name in config.get("architectures") or ()):
        return []
    labels = config.get("id2label") or {}
    return [str(labels[key]) for key in sorted(labels, key=int)]


def _beit_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    shared = bool(settings.get("use_shared_relative_position_bias"))
    if not shared and not settings.get("use_relative_position_bias"):
        raise ValueError("a BEiT without relative positions is not read")
    return {
        "positions": "relative",
        "init_values": settings.get("layer_scale_init_value", 0.1) or None,
        "shared_rel_pos_bias": shared,
        "global_pool": "avg" if settings.get("use_mean_pooling", True) else "token",
    }
