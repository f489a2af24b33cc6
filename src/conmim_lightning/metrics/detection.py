"""Metrics of object detection and instance segmentation."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Literal

import numpy as np
from torch import Tensor, distributed, nn
from torch.utils._pytree import tree_map
from torchmetrics.detection import MeanAveragePrecision

from conmim_lightning.batches import Detections, Objects
from conmim_lightning.metrics.unreadable import UnreadableImages

_MISSING = object()
_KINDS = {"bbox": "box", "segm": "mask"}  # COCO's names of what is compared, and ours
_NAMES = {
    "map": "ap",
    "map_50": "ap50",
    "map_75": "ap75",
    "map_small": "ap_small",
    "map_medium": "ap_medium",
    "map_large": "ap_large",
    "mar_100": "recall",
}


class DetectionMetrics(nn.Module):
    """COCO's average precision of boxes and masks over a split; each image is counted once over all devices.

    "box_ap" (mean over IoU thresholds of .5 to .95), "box_ap50", "box_ap75", "box_ap_small", "_medium", "_large" (area
    below 32 x 32 pixels, below 96 x 96, above), "box_recall" of 100 detections per image; the same with "mask_". As in
    COCO, -1 means that there are no objects of a kind, and crowds are ignored.

    Args:
        masks: whether to evaluate masks, too.
        backend: "faster_coco_eval", or "pycocotools", which takes two to three times as long (RESULTS.md).

    Attributes:
        per_class: average precision by class index, by "box" or "mask", of the last ``compute``.

    Raises:
        ValueError: the backend is not installed.
    """

    def __init__(
        self, *, masks: bool, backend: Literal["faster_coco_eval", "pycocotools"] = "faster_coco_eval"
    ) -> None:
        super().__init__()
        self.masks = masks
        try:
            self.precision = MeanAveragePrecision(
                iou_type=("bbox", "segm") if masks else ("bbox",),
                class_metrics=True,
                backend=backend,
                iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(),  # COCO's; torchmetrics' are rounded to float32
                rec_thresholds=np.linspace(0, 1, 101).tolist(),
                sync_on_compute=False,  # torchmetrics' own hangs if devices have seen unequal numbers of images
            )
        except ModuleNotFoundError as error:
            raise ValueError(f"average precision needs {backend}: pip install 'conmim-lightning[coco]'") from error
        self.precision.warn_on_many_detections = False
        self.unreadable = UnreadableImages()
        self.per_class: dict[str, dict[int, float]] = {}

    def update(self, detections: Sequence[Detections], objects: Sequence[Objects], broken: Sequence[str]) -> None:
        """Add images; unreadable images are only counted.

        Args:
            detections: detected objects of each image.
            objects: annotated objects of each image, in the same coordinates.
            broken: one string per image, empty for readable images.
        """
        self.unreadable.count(broken)
        readable = [index for index in range(len(detections)) if not broken or not broken[index]]
        shared = ("masks",) if self.masks else ()
        predictions = [_fields(detections[index], "boxes", "scores", "labels", *shared) for index in readable]
        targets = [_fields(objects[index], "boxes", "labels", "area", *shared) for index in readable]
        for target, index in zip(targets, readable, strict=True):
            target["iscrowd"] = objects[index].crowd.long()
        self.precision.update(predictions, targets)

    def compute(self) -> dict[str, Tensor]:
        """Return all metrics by name."""
        _gather(self.precision)
        result = self.precision.compute()
        metrics, self.per_class = {}, {}
        for kind, name in _KINDS.items() if self.masks else [("bbox", "box")]:
            prefix = f"{kind}_" if self.masks else ""
            metrics |= {f"{name}_{key}": result[f"{prefix}{coco_key}"] for coco_key, key in _NAMES.items()}
            values, classes = result[f"{prefix}map_per_class"].flatten(), result["classes"].flatten()
            self.per_class[name] = dict(zip(map(int, classes), map(float, values), strict=False))
        return metrics | self.unreadable.as_metric()

    def reset(self) -> None:
        """Reset all metrics; ``per_class`` is kept."""
        self.precision.reset()
        self.unreadable.reset()


def _fields(source: object, *names: str) -> dict[str, Tensor]:
    return {name: getattr(source, name) for name in names}


def _gather(metric: MeanAveragePrecision) -> None:
    """Gather the state of all devices, in the order of the split: device r of R has images r, r + R, ... ."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    for name, local in metric.metric_state.items():
        gathered: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(gathered, tree_map(lambda value: _moved(value, "cpu"), local))
        rounds = zip_longest(*gathered, fillvalue=_MISSING)
        entries = [entry for entries in rounds for entry in entries if entry is not _MISSING]
        setattr(metric, name, tree_map(lambda value: _moved(value, metric.device), entries))


def _moved(value: object, device: object) -> object:
    return value.to(device) if isinstance(value, Tensor) else value  # type: ignore[call-overload]
