"""What a detector is judged by."""

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from torch import Tensor, distributed, nn
from torch.utils._pytree import tree_map
from torchmetrics import SumMetric
from torchmetrics.detection import MeanAveragePrecision

KINDS = {"bbox": "box", "segm": "mask"}
"""COCO's names of what is compared, and ours."""

_MISSING = object()
_NAMES = {
    "map": "ap",
    "map_50": "ap50",
    "map_75": "ap75",
    "map_small": "ap_small",
    "map_medium": "ap_medium",
    "map_large": "ap_large",
    "mar_100": "recall",
}


class BoxJudge(nn.Module):
    """COCO's average precision of boxes, and of masks, over a whole part; images of all devices are counted once.

    "box_ap" (mean over overlaps of .5 to .95), "box_ap50", "box_ap75", "box_ap_small", "_medium", "_large" (below 32 x
    32 pixels, 96 x 96, above), "box_recall" of 100 objects an image; the same with "mask_". -1 where there is nothing
    of a kind, as in COCO. Crowds count neither for nor against.

    Args:
        masks: judge masks, too.
        backend: "faster_coco_eval", or "pycocotools", which needs two to three times as long (RESULTS.md).

    Raises:
        ValueError: the backend is not installed.
    """

    def __init__(self, *, masks: bool, backend: Any = "faster_coco_eval") -> None:
        super().__init__()
        self.masks = masks
        kinds: Any = ("bbox", "segm") if masks else ("bbox",)
        try:
            self.precision = MeanAveragePrecision(
                iou_type=kinds,
                class_metrics=True,
                backend=backend,
                iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),  # COCO's; torchmetrics' own are rounded to float32
                rec_thresholds=np.linspace(0, 1, 101).tolist(),
                sync_on_compute=False,  # torchmetrics' own hangs where devices have seen unequal numbers of images
            )
        except ModuleNotFoundError as error:
            raise ValueError(f"average precision needs {backend}: pip install 'conmim-lightning[coco]'") from error
        self.precision.warn_on_many_detections = False
        self.unreadable = SumMetric()

    def update(self, found: Sequence[Any], objects: Sequence[Any], broken: Sequence[str]) -> None:
        """Count images; what cannot be read counts apart.

        Args:
            found: of each image what was found: boxes, scores, labels, masks.
            objects: of each image its ``Objects``, in the same pixels.
            broken: a text for each, empty where it could be read.
        """
        self.unreadable.update(sum(map(bool, broken)))
        readable = [number for number in range(len(found)) if not broken or not broken[number]]
        answers = [self._named(found[number], ("boxes", "scores", "labels")) for number in readable]
        truths = [self._named(objects[number], ("boxes", "labels", "area")) for number in readable]
        for truth, number in zip(truths, readable, strict=True):
            truth["iscrowd"] = objects[number].crowd.long()
        self.precision.update(answers, truths)

    def reset(self) -> None:
        """Start anew."""
        self.precision.reset()
        self.unreadable.reset()

    def figures(self, part: str) -> tuple[dict[str, Tensor], dict[str, dict[int, float]]]:
        """All figures of a part, by "part/name"; by kind the precision of each class that occurs; and start anew."""
        _gather(self.precision)
        found = self.precision.compute()
        self.unreadable.update(0)
        unreadable = self.unreadable.compute()
        self.reset()
        figures, classes = {}, {}
        for kind, ours in KINDS.items() if self.masks else [("bbox", "box")]:
            prefix = f"{kind}_" if self.masks else ""
            for name, our_name in _NAMES.items():
                figures[f"{part}/{ours}_{our_name}"] = found[f"{prefix}{name}"]
            values, numbers = found[f"{prefix}map_per_class"].flatten(), found["classes"].flatten()
            classes[ours] = dict(zip(map(int, numbers), map(float, values), strict=False))
        return figures | ({f"{part}/unreadable_images": unreadable} if unreadable else {}), classes

    def _named(self, found: Any, names: Iterable[str]) -> dict[str, Tensor]:
        return {name: getattr(found, name) for name in (*names, *(["masks"] if self.masks else []))}


def _gather(metric: Any) -> None:
    """Give a metric what all devices have noted, image by image in the order of the part.

    Device r of R has the r-th, (r + R)-th, ... image.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    for name, mine in metric.metric_state.items():
        everyones: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(everyones, _moved(mine, "cpu"))
        rounds = zip_longest(*everyones, fillvalue=_MISSING)
        found = [entry for entries in rounds for entry in entries if entry is not _MISSING]
        setattr(metric, name, _moved(found, metric.device))


def _moved(values: Any, device: Any) -> Any:
    return tree_map(lambda value: value.to(device) if isinstance(value, Tensor) else value, values)
