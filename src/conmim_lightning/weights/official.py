"""Names of the official ConMIM code (TencentARC/ConMIM) and ours."""

from collections.abc import Mapping

from torch import Tensor

_PROJECTOR = "projectors."
_MASK_TOKEN = "mask_token"


def from_official(name: str) -> str:
    """Name within a ``Branch`` of what the official model calls ``name``."""
    if name.startswith(_PROJECTOR):
        return "projector.layers." + name.removeprefix(_PROJECTOR)
    if name == _MASK_TOKEN:
        return "encoder.mask_token"
    return "encoder.backbone." + name


def branch_from_official(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State of a ``Branch`` (timm ``Beit`` backbone) from an official state.

    Left out are the head that the official pre-training never uses (``lm_head``) and the tables of position indices,
    which timm computes.
    """
    return {
        from_official(name): tensor
        for name, tensor in state.items()
        if not name.startswith("lm_head.") and not name.endswith("relative_position_index")
    }
