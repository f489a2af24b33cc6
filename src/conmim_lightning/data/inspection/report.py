"""The report on a collection: its content, broken images, duplicates, and images to exclude."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conmim_lightning.cores import available_cores
from conmim_lightning.data.checks import check_at_least
from conmim_lightning.data.images.decode import Decoder
from conmim_lightning.data.inspection.contact_sheet import contact_sheet
from conmim_lightning.data.inspection.duplicates import exact_duplicates, near_duplicates, similar_features
from conmim_lightning.data.inspection.survey import AnnotationCheck, Survey, survey
from conmim_lightning.data.sources.base import Source
from conmim_lightning.data.sources.name_list import to_line
from conmim_lightning.files import write_text

_SIDES = (0, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 1 << 31)  # pixels; bins of the histogram
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_COLUMNS = 12
_PAIRS = 24
_CLASSES = 12
_BAR = 40  # characters of the longest bar

DUPLICATES = {"exact": "same bytes as", "near": "looks like", "similar": "features similar to"}
"""Reason in the list of findings, by kind of duplicates."""

KINDS = ("broken", "annotations", "constant", *DUPLICATES)
"""Kinds of findings: "annotations" are invalid class maps or objects, "constant" is nearly constant or nearly black."""


@dataclass
class Findings:
    """The faults of a collection, by index of the image.

    Attributes:
        broken: reasons of the broken images.
        annotations: reasons of the images with an invalid annotation; None if there are no annotations.
        constant: reasons of the images that are constant or nearly so.
        duplicates: by kind (see ``DUPLICATES``), for each duplicate the index of the image that it duplicates.
    """

    broken: dict[int, str]
    annotations: dict[int, str] | None = None
    constant: dict[int, str] = field(default_factory=dict)
    duplicates: dict[str, dict[int, int]] = field(default_factory=dict)

    def reasons(self, source: Source) -> dict[str, dict[int, str]]:
        """Return the reasons by kind and index of the image."""
        reasons = {"broken": self.broken}
        if self.annotations is not None:
            reasons["annotations"] = self.annotations
        reasons["constant"] = self.constant
        for kind, duplicates in self.duplicates.items():
            reasons[kind] = {index: f"{DUPLICATES[kind]} {source.name(first)}" for index, first in duplicates.items()}
        return reasons

    def distinct(self, count: int) -> NDArray[np.int64]:
        """Return the indices, of ``count`` images, that are neither broken nor duplicates, ascending."""
        mask = np.ones(count, bool)
        for indices in (self.broken, *self.duplicates.values()):
            mask[list(indices)] = False
        return np.flatnonzero(mask)


class Inspection:
    """Inspect every image of a collection once.

    Args:
        output: folder for ``inspection.json``, ``exclude.tsv``, one list per kind of finding and ``contact_sheet.png``.
        near_bits: largest number of differing bits in the 64-bit perceptual hashes of near duplicates, 0 to 15; null
            skips this search.
        min_similarity: smallest cosine similarity of the features of similar images; this search needs an encoder.
        exclude: kinds of findings for the exclusion list: "broken", "annotations", "constant", "exact", "near",
            "similar".
        sheet_images: number of images on the contact sheet, evenly spaced.
        num_workers: number of processes; null for one per usable core.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        *,
        output: str,
        exclude: list[str],
        near_bits: int | None = 3,
        min_similarity: float = 0.98,
        sheet_images: int = 96,
        num_workers: int | None = None,
    ) -> None:
        if near_bits is not None and not 0 <= near_bits <= 15:
            raise ValueError(f"near_bits must lie in 0 to 15, or be null, got {near_bits}")
        if not -1 <= min_similarity <= 1:
            raise ValueError(f"min_similarity must be a cosine from -1 to 1, got {min_similarity}")
        if unknown := [kind for kind in exclude if kind not in KINDS]:
            raise ValueError(f"exclude takes {list(KINDS)}, got {unknown}")
        check_at_least(1, sheet_images=sheet_images)
        check_at_least(0, num_workers=num_workers)
        self.output = Path(output)
        self.exclude = list(exclude)
        self.near_bits = near_bits
        self.min_similarity = min_similarity
        self.sheet_images = sheet_images
        self.num_workers = available_cores() if num_workers is None else num_workers

    def inspect(
        self, source: Source, decoder: Decoder, annotation_check: AnnotationCheck | None = None
    ) -> tuple[Survey, Findings]:
        """Read every image; find broken images, invalid annotations, exact and near duplicates.

        Args:
            source: source of the images.
            decoder: decoder of the image bytes.
            annotation_check: function that checks an annotation; None if there are no annotations.
        """
        images = survey(
            source,
            decoder,
            num_workers=self.num_workers,
            with_hashes=self.near_bits is not None,
            annotation_check=annotation_check,
        )
        annotations = images.annotations if annotation_check else None
        findings = Findings(images.broken, annotations, images.constant)
        findings.duplicates["exact"] = exact_duplicates(images.digests, findings.distinct(len(source)))
        if self.near_bits is not None:
            candidates = findings.distinct(len(source))
            findings.duplicates["near"] = near_duplicates(images.hashes, candidates, self.near_bits)
        return images, findings

    def add_similar(self, findings: Findings, features: NDArray[np.float32], indices: NDArray[np.int64]) -> None:
        """Add images with similar features, given (M, D) features of unit length and (M,) indices of their images."""
        findings.duplicates["similar"] = similar_features(features, indices, self.min_similarity)

    def write(self, images: Survey, findings: Findings, source: Source, decoder: Decoder) -> dict[str, Any]:
        """Write all files; return the content of ``inspection.json``."""
        self.output.mkdir(parents=True, exist_ok=True)
        reasons, excluded = findings.reasons(source), dict[int, str]()
        for kind, by_index in reasons.items():
            self._write_list(f"{kind}.tsv", by_index, source)
            excluded |= by_index if kind in self.exclude else {}
        self._write_list("exclude.tsv", excluded, source)
        counts = {kind: len(by_index) for kind, by_index in reasons.items()}
        report = _statistics(images, source) | counts | {"excluded": len(excluded)}
        write_text(self.output / "inspection.json", json.dumps(report, indent=1))
        words: dict[int, str] = {}
        for kind, by_index in reasons.items():
            words |= {index: f"{words[index]}, {kind}" if index in words else kind for index in by_index}
        rows = self._rows(findings, len(source))
        contact_sheet(source, decoder, rows, self.output / "contact_sheet.png", findings=words)
        return report

    def _write_list(self, name: str, reasons: Mapping[int, str], source: Source) -> None:
        with (self.output / name).open("w", encoding="utf-8", errors="surrogateescape") as file:
            file.writelines(to_line(source.name(index), reasons[index]) + "\n" for index in sorted(reasons))

    def _rows(self, findings: Findings, count: int) -> list[list[int]]:
        """Return the contact sheet's rows: a sample of all images, then pairs of near duplicates and similar images."""
        shown = min(self.sheet_images, count)
        sample = [position * count // shown for position in range(shown)]
        pairs = [*findings.duplicates.get("near", {}).items(), *findings.duplicates.get("similar", {}).items()]
        paired = [index for later, first in pairs[:_PAIRS] for index in (first, later)]
        return [
            indices[start : start + _COLUMNS]
            for indices in (sample, paired)
            for start in range(0, len(indices), _COLUMNS)
        ]


def format_report(report: Mapping[str, Any]) -> str:
    """Format the content of ``inspection.json`` for a terminal."""
    formats = ", ".join(f"{name} {count:,}" for name, count in report["formats"].items()) or "none readable"
    size = f"{report['bytes'] / 2**30:.2f} GiB" if report["bytes"] >= 1 << 30 else f"{report['bytes'] / 2**20:.1f} MiB"
    lines = [f"{report['images']:,} images, {size}: {formats}", *report["notes"]]
    for name, values in report["quantiles"].items():
        lines.append(f"{name}: " + ", ".join(f"{float(level):.0%} {value:.0f}" for level, value in values.items()))
    largest = max([1, *report["shorter_side_from"].values()])
    for low, count in report["shorter_side_from"].items():
        if count:
            lines.append(f"shorter side from {low:>4}: {'#' * max(1, round(_BAR * count / largest))} {count:,}")
    if per_class := list(report["per_class"].items()):
        shown = [f"{name} {count:,}" for name, count in per_class[:_CLASSES]]
        missing = [repr(name) for name, count in per_class if not count]
        more = [f"{len(per_class) - _CLASSES} more"] if len(per_class) > _CLASSES else []
        lines.append(f"objects or pixels per class: {', '.join(shown + more)}")
        if missing:
            lines.append(f"without any: {', '.join(missing[:_CLASSES])}, {len(missing)} of {len(per_class)} classes")
    counts = ", ".join(f"{kind} {report[kind]:,}" for kind in KINDS if kind in report)
    return "\n".join([*lines, f"{counts}; {report['excluded']:,} to exclude"])


def _statistics(images: Survey, source: Source) -> dict[str, Any]:
    """Return counts, formats and sizes of the images."""
    readable = images.widths > 0
    columns = {"width": images.widths, "height": images.heights, "bytes": images.sizes}
    counts, _ = np.histogram(np.minimum(images.widths, images.heights)[readable], _SIDES)
    per_format = np.bincount(images.formats, minlength=len(images.format_names)).tolist()
    formats = Counter(dict(zip(images.format_names[1:], per_format[1:], strict=True)))
    return {
        "root": source.root,
        "images": len(source),
        "classes": len(source.classes),
        "notes": list(source.notes),
        "formats": dict(formats.most_common()),
        "bytes": int(images.sizes.sum()),
        "quantiles": {name: _quantiles(values[readable]) for name, values in columns.items()},
        "shorter_side_from": {str(low): int(count) for low, count in zip(_SIDES, counts, strict=False)},
        "per_class": _per_class(images.class_counts, source),
    }


def _per_class(counts: NDArray[np.int64] | None, source: Source) -> dict[str, int]:
    """Return the number of objects or pixels by class, the largest first; empty without annotations."""
    if counts is None:
        return {}
    order: list[int] = np.argsort(-counts, kind="stable").tolist()
    return {str(source.classes[label]): int(counts[label]) for label in order}


def _quantiles(values: NDArray[np.int64]) -> dict[str, float]:
    return {str(level): float(np.quantile(values, level)) for level in _QUANTILES} if len(values) else {}
