"""Conversion between masks and COCO's segmentations: polygons and run lengths."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conmim_lightning.data.sources.outlines import encoded_outline, mask_codec


def decode_masks(outlines: Sequence[object], height: int, width: int, name: str) -> NDArray[np.bool_]:
    """Decode the masks of an image's objects.

    Args:
        outlines: per object, a list of polygons [x, y, x, y, ...] in pixels, or run lengths {"size", "counts"}.
        height: height of the image.
        width: width of the image.
        name: name of the image, for messages.

    Returns:
        (n, H, W) bool.

    Raises:
        ValueError: an outline has another format or size, or faster-coco-eval is not installed.
    """
    codec = mask_codec()
    masks = np.zeros((len(outlines), height, width), bool)
    for index, outline in enumerate(outlines):
        try:
            masks[index] = codec.decode(encoded_outline(outline, height, width)).astype(bool)
        except (ValueError, TypeError, KeyError, IndexError, RuntimeError, OverflowError) as error:
            raise ValueError(f"object {index} of {name!r}: {error}") from error
    return masks


def encode_mask(mask: NDArray[np.bool_]) -> dict[str, object]:
    """Encode a mask (H, W) as COCO's compressed run lengths, for JSON."""
    encoded = mask_codec().encode(np.asfortranarray(mask.astype(np.uint8)))
    counts = encoded["counts"]
    return {"size": list(encoded["size"]), "counts": counts.decode() if isinstance(counts, bytes) else counts}


def coco_results(image_id: int | str, detections: Any, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Convert the detections in an image to entries of COCO's results JSON.

    Args:
        image_id: id of the image, or its name.
        detections: boxes (n, 4), scores (n,), labels (n,) and masks (n, H, W) or no masks, on the CPU.
        category_ids: category id of each class.
    """
    entries = []
    for index, (left, top, right, bottom) in enumerate(detections.boxes.tolist()):
        entry: dict[str, object] = {
            "image_id": image_id,
            "category_id": category_ids[int(detections.labels[index])],
            "bbox": [left, top, right - left, bottom - top],
            "score": float(detections.scores[index]),
        }
        if len(detections.masks):
            entry["segmentation"] = encode_mask(detections.masks[index].numpy())
        entries.append(entry)
    return entries
