"""Conversion of the official ConMIM code's parameter names (TencentARC/ConMIM) to ours."""

from collections.abc import Mapping

from torch import Tensor

_PROJECTOR = "projectors."
_MASK_TOKEN = "mask_token"


def from_official(name: str) -> str:
    """Name within a ``Branch`` of an official parameter."""
    if name.startswith(_PROJECTOR):
        return "projector.layers." + name.removeprefix(_PROJECTOR)
    if name == _MASK_TOKEN:
        return "encoder.mask_token"
    return "encoder.backbone." + name


def branch_from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert an official state to that of a ``Branch`` with a timm ``Beit``.

    Left out are the head that the official pre-training never uses (``lm_head``) and the tables of position indices,
    which timm computes.
    """
    return {
        from_official(name): tensor
        for name, tensor in state.items()
        if not name.startswith("lm_head.") and not name.endswith("relative_position_index")
    }
