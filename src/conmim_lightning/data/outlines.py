"""COCO's segmentations as masks, and masks as run lengths."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    from faster_coco_eval.core import mask as _codec  # type: ignore[import-not-found]
except ImportError:
    _codec = None

_FARTHEST = 10  # that a polygon may reach, in units of the image's longer side
_LEAST = 6  # numbers of a polygon: three points


def masks_of(outlines: Sequence[Any], height: int, width: int, name: str) -> NDArray[np.bool_]:
    """Masks of an image's objects.

    Args:
        outlines: of each object a list of polygons [x, y, x, y, ...] in pixels, or run lengths {"size", "counts"}.
        height: of the image.
        width: of the image.
        name: of the image, for messages.

    Returns:
        (n, H, W).

    Raises:
        ValueError: an outline is none of these, or of another size; faster-coco-eval is missing.
    """
    codec = coder()
    found = np.zeros((len(outlines), height, width), bool)
    for number, outline in enumerate(outlines):
        try:
            found[number] = codec.decode(_encoded(outline, height, width)).astype(bool)
        except (ValueError, TypeError, KeyError, IndexError, RuntimeError, OverflowError) as error:
            raise ValueError(f"object {number} of {name!r}: {error}") from error
    return found


def run_lengths_of(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """A mask (H, W) in COCO's compressed run lengths, as they stand in a JSON."""
    found = coder().encode(np.asfortranarray(mask.astype(np.uint8)))
    counts = found["counts"]
    return {"size": list(found["size"]), "counts": counts.decode() if isinstance(counts, bytes) else counts}


def results(image: int | str, found: Any, categories: Sequence[int]) -> list[dict[str, Any]]:
    """Objects found in an image as entries of COCO's JSON of results.

    Args:
        image: number or name of the image.
        found: boxes (n, 4), scores (n,), labels (n,) and masks (n, H, W), or none, on the CPU.
        categories: number of each class's category.
    """
    entries = []
    for place, (left, top, right, bottom) in enumerate(found.boxes.tolist()):
        entry = {
            "image_id": image,
            "category_id": categories[int(found.labels[place])],
            "bbox": [left, top, right - left, bottom - top],
            "score": float(found.scores[place]),
        }
        if len(found.masks):
            entry["segmentation"] = run_lengths_of(found.masks[place].numpy())
        entries.append(entry)
    return entries


def coder() -> Any:
    """Functions on run lengths.

    Raises:
        ValueError: faster-coco-eval is missing.
    """
    if _codec is None:
        raise ValueError("masks of objects need faster-coco-eval: pip install 'conmim-lightning[coco]'")
    return _codec


def _encoded(outline: Any, height: int, width: int) -> Any:
    if isinstance(outline, list):
        polygons = [part for part in outline if isinstance(part, list) and len(part) >= _LEAST and len(part) % 2 == 0]
        if not polygons:  # parts of two points, beside others, are nothing
            raise ValueError(f"polygons need at least three points of two numbers each, got {str(outline)[:80]}")
        reach = _FARTHEST * max(height, width)
        if not all(isinstance(n, int | float) and -reach <= n <= reach for part in polygons for n in part):
            raise ValueError(f"polygons have numbers of pixels in or near the image, got {str(outline)[:80]}")
        parts = coder().frPyObjects(polygons, height, width)
        return coder().merge(parts)
    if not isinstance(outline, dict) or "counts" not in outline or "size" not in outline:
        raise ValueError(f"a segmentation is a list of polygons or run lengths, got {str(outline)[:80]}")
    if list(outline["size"]) != [height, width]:
        raise ValueError(f"run lengths are of {outline['size']}, height and width of the image are {[height, width]}")
    if isinstance(outline["counts"], list):
        if sum(outline["counts"]) != height * width:
            raise ValueError(f"run lengths cover {sum(outline['counts'])} of {height * width} pixels")
        return coder().frPyObjects(outline, height, width)
    return outline
