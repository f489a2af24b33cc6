"""A linear probe on frozen patch tokens: what does a single token say of its patch?"""

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_auroc

Part = dict[str, Tensor]
Chosen = Callable[[Part], Tensor]

_NEWTON_STEPS, _CONVERGED = 20, 1e-6
_SOLID = 0.25


class PatchTargets(NamedTuple):
    """What the probe predicts of each patch.

    Attributes:
        inside: (B, N) float, share of the patch's pixels that belong to objects, 0 to 1.
        second: (B, N) float, share of the patch's second most frequent class, 0 to 1/2; above 0 a border crosses it.
        label: (B, N) int64, the most frequent class of the patch, 0 = background.
    """

    inside: Tensor
    second: Tensor
    label: Tensor


def patch_targets(class_map: Tensor, grid_size: tuple[int, int], num_classes: int) -> PatchTargets:
    """Summarise class maps by patch.

    Args:
        class_map: (B, H, W) integers, 0 = background, classes from 1 to num_classes.
        grid_size: patches along height and width; they must divide H and W.
        num_classes: object classes.
    """
    rows, columns = grid_size
    if class_map.shape[1] % rows or class_map.shape[2] % columns:
        raise ValueError(f"class maps of {tuple(class_map.shape[1:])} pixels do not divide into {grid_size} patches")
    largest = int(class_map.max())
    if largest > num_classes:
        raise ValueError(f"a class map holds {largest}; allowed are 0 (background) and 1 to {num_classes}")
    images, height, width = class_map.shape
    device, kinds = class_map.device, num_classes + 1
    patch = (torch.arange(height, device=device) * rows // height)[:, None] * columns
    patch = patch + torch.arange(width, device=device) * columns // width  # (H, W) number of the patch in its image
    patch = patch + rows * columns * torch.arange(images, device=device)[:, None, None]  # and in the batch
    cells = (patch * kinds + class_map.long()).flatten()
    counts = torch.bincount(cells, minlength=images * rows * columns * kinds).view(images, rows * columns, kinds)
    shares = counts.transpose(1, 2) * (rows * columns / (height * width))  # (B, classes + 1, N)
    top = shares.topk(2, dim=1)
    return PatchTargets(1 - shares[:, 0], top.values[:, 1], top.indices[:, 0])


def logistic_probe(features: Tensor, target: Tensor, *, penalty: float = 1e-3) -> Tensor:
    """Weights of a ridge-penalised logistic regression by Newton's method (deterministic, no step size).

    Args:
        features: (S, D) float, standardised.
        target: (S,) bool.
        penalty: of the squared weights, relative to the mean loss; > 0.

    Returns:
        (D + 1,) weights, the last one the intercept (not penalised).
    """
    inputs = F.pad(features.double(), (0, 1), value=1.0)
    goal = target.double()
    ridge = torch.full((inputs.shape[1],), penalty, dtype=torch.float64, device=inputs.device)
    ridge[-1] = 1e-9
    weights = torch.zeros_like(ridge)
    for _ in range(_NEWTON_STEPS):
        chance = torch.sigmoid(inputs @ weights)
        gradient = inputs.T @ (chance - goal) / len(goal) + ridge * weights
        curvature = (inputs * (chance * (1 - chance))[:, None]).T @ inputs / len(goal) + torch.diag(ridge)
        change = torch.linalg.solve(curvature, gradient)
        weights = weights - change
        if change.abs().max() < _CONVERGED:
            break
    return weights


class DenseProbe(Metric):
    """Test AUROC of linear probes that are fitted on reference tokens.

    ``object``: object or background, of patches that are at least three quarters one or the other. ``border``: does a
    border cross the patch, of patches whose second class covers at least a quarter or nothing. ``class``: which class,
    one against the rest, mean over the classes, of patches at least three quarters object. 0.5 is chance.

    Shapes: B images, N patches, D width.

    Args:
        num_classes: object classes in the class maps, >= 1.
        max_patches: at most this many reference patches, chosen at random by a fixed seed, are fitted on.
    """

    full_state_update = False

    def __init__(self, *, num_classes: int, max_patches: int = 40_000) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.max_patches = max_patches
        for role in ("reference", "query"):
            for name in ("tokens", "inside", "second", "label"):
                self.add_state(f"{role}_{name}", [], dist_reduce_fx="cat")

    def update(self, tokens: Tensor, targets: PatchTargets, *, reference: bool) -> None:
        """Add images.

        Args:
            tokens: (B, N, D) frozen features.
            targets: of the same patches.
            reference: True to fit on them, False to test on them.
        """
        role = "reference" if reference else "query"
        values = (tokens.float(), targets.inside, targets.second, targets.label)
        for name, value in zip(("tokens", "inside", "second", "label"), values, strict=True):
            getattr(self, f"{role}_{name}").append(value.flatten(0, 1))

    def compute(self) -> dict[str, Tensor]:
        """AUROC for "object", "border" and "class", 0 to 1; NaN where the query patches hold one side only."""
        fit, test = self._state("reference"), self._state("query")
        if len(fit["tokens"]) > self.max_patches:
            random = torch.Generator().manual_seed(0)
            chosen = torch.randperm(len(fit["tokens"]), generator=random)[: self.max_patches].to(fit["tokens"].device)
            fit = {name: value[chosen] for name, value in fit.items()}
        mean, spread = fit["tokens"].mean(0), fit["tokens"].std(0)
        for part in (fit, test):
            part["tokens"] = (part["tokens"] - mean) / (spread + 1e-6)
        self._object_probe = (mean, spread, self._fit(fit, _solid, _inside))
        by_class = [
            self._auroc(fit, test, _solid_object, lambda part, c=c: part["label"] == c)
            for c in range(1, self.num_classes + 1)
        ]
        return {
            "object": self._auroc(fit, test, _solid, _inside),
            "border": self._auroc(fit, test, _clear, _border),
            "class": torch.stack(by_class).nanmean(),
        }

    def _state(self, role: str) -> Part:
        names = ("tokens", "inside", "second", "label")
        parts = {name: getattr(self, f"{role}_{name}") for name in names}
        whole = {name: torch.cat(value) if isinstance(value, list) else value for name, value in parts.items()}
        on_mps = whole["tokens"].device.type == "mps"  # which has no float64
        return {name: value.cpu() for name, value in whole.items()} if on_mps else whole

    def object_chance(self, tokens: Tensor) -> Tensor:
        """Chance of each patch to be an object, by the probe that ``compute`` fitted last; (B, N, D) -> (B, N).

        NaN everywhere if the reference patches held one side only.
        """
        mean, spread, weights = self._object_probe
        if weights is None:
            return torch.full(tokens.shape[:2], torch.nan)
        return torch.sigmoid(_score((tokens.float().to(mean.device) - mean) / (spread + 1e-6), weights))

    @staticmethod
    def _fit(fit: Part, chosen: Chosen, goal: Chosen) -> Tensor | None:
        mask = chosen(fit)
        target = goal(fit)[mask]
        if target.all() or not target.any():
            return None
        return logistic_probe(fit["tokens"][mask], target)

    @classmethod
    def _auroc(cls, fit: Part, test: Part, chosen: Chosen, goal: Chosen) -> Tensor:
        weights, mask = cls._fit(fit, chosen, goal), chosen(test)
        target = goal(test)[mask]
        if weights is None or target.all() or not target.any():
            return torch.tensor(torch.nan, device=mask.device)
        score = _score(test["tokens"][mask], weights)
        rank = score.argsort().argsort().double() / len(score)  # torchmetrics would squash scores outside [0, 1]
        return cast(Tensor, binary_auroc(rank, target.long()))


def _score(tokens: Tensor, weights: Tensor) -> Tensor:
    """(..., D) standardised tokens and (D + 1,) weights -> (...) scores."""
    return F.pad(tokens.double(), (0, 1), value=1.0) @ weights


def _clear(part: Part) -> Tensor:
    return (part["second"] == 0) | (part["second"] >= _SOLID)


def _solid(part: Part) -> Tensor:
    return (part["inside"] - 0.5).abs() >= 0.5 - _SOLID


def _solid_object(part: Part) -> Tensor:
    return part["inside"] >= 1 - _SOLID


def _inside(part: Part) -> Tensor:
    return part["inside"] > 0.5


def _border(part: Part) -> Tensor:
    return part["second"] > 0
