"""A whole account of a collection: what is in it, what is broken, what is there twice; and what to leave out."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conmim_lightning.data.checks import at_least
from conmim_lightning.data.contact_sheet import contact_sheet
from conmim_lightning.data.cores import available_cores
from conmim_lightning.data.decode import Decoder
from conmim_lightning.data.duplicates import exact_copies, near_copies, similar_features
from conmim_lightning.data.lists import to_line
from conmim_lightning.data.sources import Source
from conmim_lightning.data.survey import Faults, Survey, survey

_SIDES = (0, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 1 << 31)  # pixels; bins of the histogram
_SHARES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_COLUMNS = 12
_PAIRS = 24

HOW = {"exact": "the same bytes as", "near": "looks like", "similar": "has features like"}
"""Kinds of copies, and how a list tells them."""

KINDS = ("broken", "annotations", *HOW)
"""Kinds of findings; "annotations" are those of images whose class map or objects are at fault."""


@dataclass
class Findings:
    """What speaks against some images, by their numbers.

    Attributes:
        broken: reasons.
        annotations: reasons, of images whose annotation is at fault; None where nothing is annotated.
        copies: by kind (see ``HOW``), for each copy the number of the image that it is a copy of.
    """

    broken: dict[int, str]
    annotations: dict[int, str] | None = None
    copies: dict[str, dict[int, int]] = field(default_factory=dict)

    def reasons(self, kind: str, source: Source) -> dict[int, str]:
        """A sentence for each image that a kind of finding ("broken" or one of ``HOW``) speaks against."""
        if kind in ("broken", "annotations"):
            return getattr(self, kind)
        return {number: f"{HOW[kind]} {source.name(first)}" for number, first in self.copies.get(kind, {}).items()}

    def others(self, count: int) -> NDArray[np.int64]:
        """Numbers of all other images of ``count``, ascending."""
        good = np.ones(count, bool)
        for numbers in (self.broken, *self.copies.values()):
            good[list(numbers)] = False
        return np.flatnonzero(good)


class Inspection:
    """Looks at every image of a collection once.

    Args:
        output: folder for ``inspection.json``, ``exclude.tsv``, a list for each kind of finding and
            ``contact_sheet.png``.
        near_bits: bits of 64 in which the perceptual hashes of near duplicates may differ, 0 to 15; null does not look
            for any.
        least_similarity: cosine of features from which on images count as similar; needs an encoder.
        exclude: kinds of finding to put on the exclusion list: "broken", "annotations", "exact", "near",
            "similar".
        sheet_images: images on the contact sheet, evenly spaced.
        num_workers: processes; null takes one for each core that this process may use.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        *,
        output: str,
        exclude: list[str],
        near_bits: int | None = 3,
        least_similarity: float = 0.98,
        sheet_images: int = 96,
        num_workers: int | None = None,
    ) -> None:
        if near_bits is not None and not 0 <= near_bits <= 15:
            raise ValueError(f"near_bits must lie in 0 to 15, or be null, got {near_bits}")
        if not -1 <= least_similarity <= 1:
            raise ValueError(f"least_similarity is a cosine, got {least_similarity}")
        if unknown := [kind for kind in exclude if kind not in KINDS]:
            raise ValueError(f"exclude takes {list(KINDS)}, got {unknown}")
        at_least(1, sheet_images=sheet_images)
        at_least(0, num_workers=num_workers)
        self.output = Path(output)
        self.exclude = list(exclude)
        self.near_bits = near_bits
        self.least_similarity = least_similarity
        self.sheet_images = sheet_images
        self.num_workers = available_cores() if num_workers is None else num_workers

    def look(self, source: Source, decoder: Decoder, faults: Faults | None = None) -> tuple[Survey, Findings]:
        """Read the collection; what every image is, and what speaks against some.

        Args:
            source: images.
            decoder: of their bytes.
            faults: says what is wrong with the annotation of an image; None where there are none.
        """
        with_looks = self.near_bits is not None
        found = survey(source, decoder, num_workers=self.num_workers, with_looks=with_looks, faults=faults)
        findings = Findings(found.broken, annotations=found.annotations if faults else None)
        findings.copies["exact"] = exact_copies(found.digests, findings.others(len(source)))
        if self.near_bits is not None:
            findings.copies["near"] = near_copies(found.looks, findings.others(len(source)), self.near_bits)
        return found, findings

    def compare(self, findings: Findings, features: NDArray[np.float32], numbers: NDArray[np.int64]) -> None:
        """Find images with like features; (M, D) features of unit length and the (M,) numbers of their images."""
        findings.copies["similar"] = similar_features(features, numbers, self.least_similarity)

    def write(self, found: Survey, findings: Findings, source: Source, decoder: Decoder) -> dict[str, Any]:
        """Write everything; returns what stands in ``inspection.json``."""
        self.output.mkdir(parents=True, exist_ok=True)
        excluded: dict[int, str] = {}
        known = ("broken", *([] if findings.annotations is None else ["annotations"]))
        for kind in (*known, *findings.copies):
            reasons = findings.reasons(kind, source)
            self._list(f"{kind}.tsv", reasons, source)
            excluded |= reasons if kind in self.exclude else {}
        self._list("exclude.tsv", excluded, source)
        account = _account(found, findings, source) | {"excluded": len(excluded)}
        (self.output / "inspection.json").write_text(json.dumps(account, indent=1))
        contact_sheet(source, decoder, self._rows(findings, len(source)), self.output / "contact_sheet.png")
        return account

    def told(self, account: dict[str, Any]) -> str:
        """An account as a user reads it on a screen."""
        formats = ", ".join(f"{name} {count:,}" for name, count in account["formats"].items()) or "none readable"
        lines = [f"{account['images']:,} images, {account['bytes'] / 2**30:.2f} GiB: {formats}", *account["notes"]]
        for name, values in account["quantiles"].items():
            lines.append(f"{name}: " + ", ".join(f"{float(share):.0%} {value:.0f}" for share, value in values.items()))
        most = max([1, *account["shorter_side_from"].values()])
        for low, count in account["shorter_side_from"].items():
            if count:
                lines.append(f"shorter side from {low:>4}: {'#' * max(1, round(40 * count / most))} {count:,}")
        kinds = [kind for kind in KINDS if kind in account]
        lines.append(", ".join(f"{kind} {account[kind]:,}" for kind in kinds) + f"; {account['excluded']:,} to exclude")
        return "\n".join(lines)

    def _list(self, name: str, reasons: dict[int, str], source: Source) -> None:
        with (self.output / name).open("w", encoding="utf-8", errors="surrogateescape") as file:
            file.writelines(to_line(source.name(number), reasons[number]) + "\n" for number in sorted(reasons))

    def _rows(self, findings: Findings, count: int) -> list[list[int]]:
        """A selection of all images; below it, images each beside the one that it is a near copy of."""
        shown = min(self.sheet_images, count)
        chosen = [place * count // shown for place in range(shown)]
        near = [*findings.copies.get("near", {}).items(), *findings.copies.get("similar", {}).items()][:_PAIRS]
        pairs = [number for copy, first in near for number in (first, copy)]
        return [part[start : start + _COLUMNS] for part in (chosen, pairs) for start in range(0, len(part), _COLUMNS)]


def _account(found: Survey, findings: Findings, source: Source) -> dict[str, Any]:
    """Counts, formats and sizes."""
    good = found.widths > 0
    columns = {"width": found.widths, "height": found.heights, "bytes": found.sizes}
    shorter = np.minimum(found.widths, found.heights)[good]
    counts, _ = np.histogram(shorter, _SIDES)
    of_each = np.bincount(found.formats, minlength=len(found.format_names)).tolist()
    formats = Counter(dict(zip(found.format_names[1:], of_each[1:], strict=True)))
    return {
        "root": source.root,
        "images": len(source),
        "classes": len(source.classes),
        "notes": list(source.notes),
        "formats": dict(formats.most_common()),
        "bytes": int(found.sizes.sum()),
        "quantiles": {name: _quantiles(values[good]) for name, values in columns.items()},
        "shorter_side_from": {str(low): int(count) for low, count in zip(_SIDES, counts, strict=False)},
        "broken": len(findings.broken),
        **({} if findings.annotations is None else {"annotations": len(findings.annotations)}),
        **{kind: len(copies) for kind, copies in findings.copies.items()},
    }


def _quantiles(values: NDArray[np.int64]) -> dict[str, float]:
    return {str(share): float(np.quantile(values, share)) for share in _SHARES} if len(values) else {}
