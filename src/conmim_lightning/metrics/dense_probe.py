"""Linear probes on frozen patch tokens, which measure what a single token encodes of its patch."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_auroc

Patches = dict[str, Tensor]
Selector = Callable[[Patches], Tensor]

_FIELDS = ("tokens", "inside", "second", "label")
_NEWTON_STEPS, _CONVERGED = 20, 1e-6
_GROUPS = 10  # of query images, for standard errors
_PURITY = 0.25


class PatchTargets(NamedTuple):
    """Targets that the probes predict for each patch.

    Attributes:
        inside: (B, N) float, fraction of the patch's pixels that belong to objects, 0 to 1.
        second: (B, N) float, fraction of the patch's second most frequent class, 0 to 1/2; if above 0, a border crosses
            the patch.
        label: (B, N) int64, most frequent class of the patch, -1 = background.
    """

    inside: Tensor
    second: Tensor
    label: Tensor


def patch_targets(class_map: Tensor, grid_size: tuple[int, int], num_classes: int) -> PatchTargets:
    """Return the targets of the patches of class maps.

    Args:
        class_map: (B, H, W) integers from 0 to num_classes - 1, -1 = background.
        grid_size: patches along height and width; they must divide H and W.
        num_classes: object classes.
    """
    rows, columns = grid_size
    images, height, width = class_map.shape
    if height % rows or width % columns:
        raise ValueError(f"class maps of {(height, width)} pixels do not divide into {grid_size} patches")
    if (largest := int(class_map.max())) >= num_classes:
        raise ValueError(f"a class map holds {largest}; allowed are -1 (background) and 0 to {num_classes - 1}")
    device, values = class_map.device, num_classes + 1
    patch = (torch.arange(height, device=device) * rows // height)[:, None] * columns
    patch = patch + torch.arange(width, device=device) * columns // width  # (H, W) index of the patch in its image
    patch = patch + rows * columns * torch.arange(images, device=device)[:, None, None]  # and in the batch
    cells = (patch * values + class_map.long() + 1).flatten()
    counts = torch.bincount(cells, minlength=images * rows * columns * values).view(images, rows * columns, values)
    fractions = counts.transpose(1, 2) * (rows * columns / (height * width))  # (B, classes + 1, N)
    top = fractions.topk(2, dim=1)
    return PatchTargets(1 - fractions[:, 0], top.values[:, 1], top.indices[:, 0] - 1)


def logistic_probe(features: Tensor, target: Tensor, *, penalty: float = 1e-3) -> Tensor:
    """Fit a ridge-penalised logistic regression by Newton's method (deterministic, no step size).

    Args:
        features: (S, D) float, standardised.
        target: (S,) bool.
        penalty: factor of the squared weights, relative to the mean loss; > 0.

    Returns:
        (D + 1,) weights; the last is the intercept, which is not penalised.
    """
    inputs = F.pad(features.double(), (0, 1), value=1.0)
    labels = target.double()
    ridge = torch.full((inputs.shape[1],), penalty, dtype=torch.float64, device=inputs.device)
    ridge[-1] = 1e-9
    weights = torch.zeros_like(ridge)
    for _ in range(_NEWTON_STEPS):
        probability = torch.sigmoid(inputs @ weights)
        gradient = inputs.T @ (probability - labels) / len(labels) + ridge * weights
        variance = (probability * (1 - probability))[:, None]
        hessian = (inputs * variance).T @ inputs / len(labels) + torch.diag(ridge)
        change = torch.linalg.solve(hessian, gradient)
        weights = weights - change
        if change.abs().max() < _CONVERGED:
            break
    return weights


class DenseProbe(Metric):
    """AUROC of linear probes that are fitted to reference images and tested on query images.

    ``object``: object or background, for patches that are at least three quarters one of them. ``border``: does a
    border cross the patch, for patches whose second class covers at least a quarter or nothing. ``class``: each class
    against the rest, mean over classes, for patches at least three quarters object. 0.5 is chance level.

    Shapes: B images, N patches, D width.

    Args:
        num_classes: object classes in the class maps, >= 1.
        max_patches: largest number of reference patches used for fitting, sampled with a fixed seed.
    """

    full_state_update = False

    def __init__(self, *, num_classes: int, max_patches: int = 40_000) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.max_patches = max_patches
        for role in ("reference", "query"):
            for name in _FIELDS:
                self.add_state(f"{role}_{name}", [], dist_reduce_fx="cat")

    def update(self, tokens: Tensor, targets: PatchTargets, *, reference: bool) -> None:
        """Add images.

        Args:
            tokens: (B, N, D) frozen features.
            targets: targets of the same patches.
            reference: True to fit on them, False to test on them.
        """
        role = "reference" if reference else "query"
        for name, value in zip(_FIELDS, (tokens.float(), *targets), strict=True):
            getattr(self, f"{role}_{name}").append(value.flatten(0, 1))

    def compute(self) -> dict[str, Tensor]:
        """Return the AUROC of "object", "border" and "class", 0 to 1; NaN if all query patches have one label.

        The same names with "_error" are standard errors, from the values of ten groups of query images.
        """
        fit, test = self._patches("reference"), self._patches("query")
        if len(fit["tokens"]) > self.max_patches:
            generator = torch.Generator().manual_seed(0)
            chosen = torch.randperm(len(fit["tokens"]), generator=generator)[: self.max_patches]
            fit = {name: value[chosen.to(value.device)] for name, value in fit.items()}
        mean, std = fit["tokens"].mean(0), fit["tokens"].std(0)
        for patches in (fit, test):
            patches["tokens"] = (patches["tokens"] - mean) / (std + 1e-6)
        self._object_probe = (mean, std, self._fit(fit, _is_solid, _is_object))
        by_class = [
            self._aurocs(fit, test, _is_solid_object, lambda patches, c=c: patches["label"] == c)
            for c in range(self.num_classes)
        ]
        values = {
            "object": self._aurocs(fit, test, _is_solid, _is_object),
            "border": self._aurocs(fit, test, _is_unambiguous, _has_border),
            "class": torch.stack(by_class).nanmean(0),
        }
        errors = {f"{name}_error": _standard_error(of_groups) for name, (_, *of_groups) in values.items()}
        return {name: of_all for name, (of_all, *_) in values.items()} | errors

    def object_probability(self, tokens: Tensor) -> Tensor:
        """Return the probability that each patch is an object, by the last ``compute``'s probe; (B, N, D) -> (B, N).

        NaN everywhere if all reference patches had one label.
        """
        mean, std, weights = self._object_probe
        if weights is None:
            return torch.full(tokens.shape[:2], torch.nan)
        return torch.sigmoid(_score((tokens.float().to(mean.device) - mean) / (std + 1e-6), weights))

    def _patches(self, role: str) -> Patches:
        states = {name: getattr(self, f"{role}_{name}") for name in _FIELDS}
        patches = {name: torch.cat(value) if isinstance(value, list) else value for name, value in states.items()}
        on_mps = patches["tokens"].device.type == "mps"  # MPS has no float64
        return {name: value.cpu() for name, value in patches.items()} if on_mps else patches

    @staticmethod
    def _fit(fit: Patches, select: Selector, target: Selector) -> Tensor | None:
        mask = select(fit)
        labels = target(fit)[mask]
        if labels.all() or not labels.any():
            return None
        return logistic_probe(fit["tokens"][mask], labels)

    @classmethod
    def _aurocs(cls, fit: Patches, test: Patches, select: Selector, target: Selector) -> Tensor:
        """Return the AUROC of all selected query patches, and that of each group of them, (1 + groups,)."""
        weights, mask = cls._fit(fit, select, target), select(test)
        labels = target(test)[mask]
        if weights is None:
            return torch.full((1 + _GROUPS,), torch.nan, device=mask.device)
        score = _score(test["tokens"][mask], weights)
        groups = zip(score.tensor_split(_GROUPS), labels.tensor_split(_GROUPS), strict=True)
        return torch.stack([_auroc(score, labels), *(_auroc(*group) for group in groups)])


def _auroc(score: Tensor, labels: Tensor) -> Tensor:
    """Return the AUROC of scores; NaN if all labels are equal."""
    if labels.all() or not labels.any():
        return torch.tensor(torch.nan, device=score.device)
    rank = score.argsort().argsort().double() / len(score)  # torchmetrics would squash scores outside [0, 1]
    return cast(Tensor, binary_auroc(rank, labels.long())).to(torch.float32)


def _standard_error(values: Sequence[Tensor]) -> Tensor:
    """Return the standard error of the mean of values, without NaN."""
    known = torch.stack(list(values))
    known = known[~known.isnan()]
    return known.std() / len(known) ** 0.5 if len(known) > 1 else known.new_tensor(torch.nan)


def _score(tokens: Tensor, weights: Tensor) -> Tensor:
    """Return scores: (..., D) standardised tokens, (D + 1,) weights -> (...)."""
    return F.pad(tokens.double(), (0, 1), value=1.0) @ weights


def _is_unambiguous(patches: Patches) -> Tensor:
    return (patches["second"] == 0) | (patches["second"] >= _PURITY)


def _is_solid(patches: Patches) -> Tensor:
    return (patches["inside"] - 0.5).abs() >= 0.5 - _PURITY


def _is_solid_object(patches: Patches) -> Tensor:
    return patches["inside"] >= 1 - _PURITY


def _is_object(patches: Patches) -> Tensor:
    return patches["inside"] > 0.5


def _has_border(patches: Patches) -> Tensor:
    return patches["second"] > 0
