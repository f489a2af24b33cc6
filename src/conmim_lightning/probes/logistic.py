"""Logistic regression by L-BFGS: a cheap alternative to linear probes."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conmim_lightning.probes.feature_store import Device, FeatureStore, check_features

_SMALLEST_STD = 1e-6

Solution = dict[str, Tensor]
"""Tensors weight (K, D + 1), whose last column is the intercept; mean (D,) and std (D,) of the features."""


class LogisticState(TypedDict):
    """State of a fitted ``LogisticProbe``."""

    solution: Solution
    feature: str
    weight_decay: float


class LogisticProbe(nn.Module):
    """Multinomial logistic regression on standardised features; the weight decay is selected on held-out images.

    It minimises the mean cross-entropy plus weight_decay / 2 times the squared weights (not the intercepts). All images
    enter each step; they are read in chunks, so memory does not grow with their number.

    Shapes: B images, K classes, D width.

    Args:
        num_classes: K.
        widths: width D of each feature, by name.
        features: names of features to try, null for all; the best is selected together with the best weight decay.
        weight_decays: values to try, >= 0; a single feature and weight decay need no held-out images.
        max_iterations: largest number of L-BFGS iterations.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        widths: Mapping[str, int],
        features: Sequence[str] | None = None,
        weight_decays: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1),
        max_iterations: int = 200,
    ) -> None:
        super().__init__()
        if not weight_decays or min(weight_decays) < 0 or max_iterations < 1:
            raise ValueError(
                f"logistic regression needs weight_decays >= 0 and max_iterations >= 1, got {list(weight_decays)} and "
                f"{max_iterations}"
            )
        self.num_classes = num_classes
        self.variants = [""]
        self.features = list(widths if features is None else features)
        check_features(self.features, widths)
        self.weight_decays = list(weight_decays)
        self.max_iterations = max_iterations
        self.feature, self.weight_decay = self.features[0], self.weight_decays[0]
        self.solution: Solution = {}

    def fit(self, train: FeatureStore, selection: FeatureStore | None, device: Device) -> dict[str, float]:
        """Fit every feature and weight decay and keep the best; return its accuracy on the held-out images.

        Raises:
            ValueError: there are several settings but no held-out images.
        """
        settings = [(name, decay) for name in self.features for decay in sorted(self.weight_decays, reverse=True)]
        if selection is None and len(settings) > 1:
            raise ValueError(
                f"selecting one of {len(settings)} settings needs held-out images: data.held_out_fraction=0.1"
            )
        best, start = -1.0, {}
        for feature, decay in settings:
            solution = self._solve(train, feature, decay, device, start.get(feature))
            start[feature] = solution["weight"]
            accuracy = self._accuracy(solution, selection, feature, device) if selection is not None else 0.0
            if accuracy > best:
                best, self.feature, self.weight_decay, self.solution = accuracy, feature, decay, solution
        return {"selection_top1": best} if selection is not None else {}

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Map features by name to (B, K) probabilities, under the key ""."""
        return {"": _logits(self.solution, features[self.feature]).softmax(1)}

    def get_extra_state(self) -> LogisticState:
        """Return the solution and its setting."""
        return {"solution": self.solution, "feature": self.feature, "weight_decay": self.weight_decay}

    def set_extra_state(self, state: LogisticState) -> None:
        """Restore a solution."""
        self.solution, self.feature, self.weight_decay = state["solution"], state["feature"], state["weight_decay"]

    def _solve(self, train: FeatureStore, feature: str, decay: float, device: Device, start: Tensor | None) -> Solution:
        mean, std = _moments(train, feature, device)
        shape = (self.num_classes, len(mean) + 1)
        weight = torch.zeros(shape, device=device) if start is None else start.clone()
        weight.requires_grad_()
        optimizer = torch.optim.LBFGS([weight], max_iter=self.max_iterations, line_search_fn="strong_wolfe")
        solution = {"weight": weight, "mean": mean, "std": std}

        def objective() -> float:
            optimizer.zero_grad()
            total = torch.zeros((), device=device)
            for values, labels in train.chunks(feature, device):
                loss = F.cross_entropy(_logits(solution, values), labels, reduction="sum") / len(train)
                loss.backward()
                total += loss.detach()
            penalty = decay / 2 * weight[:, :-1].square().sum()
            penalty.backward()
            return total + penalty.detach()  # type: ignore[return-value]

        with torch.enable_grad(), torch.autocast(torch.device(device).type, enabled=False):
            optimizer.step(objective)
        return solution | {"weight": weight.detach()}

    @torch.no_grad()
    def _accuracy(self, solution: Solution, store: FeatureStore, feature: str, device: Device) -> float:
        correct = sum(
            int((_logits(solution, values).argmax(1) == labels).sum())
            for values, labels in store.chunks(feature, device)
        )
        return correct / len(store)


def _logits(solution: Solution, features: Tensor) -> Tensor:
    moved = {name: value.to(features.device) for name, value in solution.items()}
    standardised = (features - moved["mean"]) / moved["std"]
    return F.linear(standardised, moved["weight"][:, :-1], moved["weight"][:, -1])


def _moments(train: FeatureStore, feature: str, device: Device) -> tuple[Tensor, Tensor]:
    """Return (D,) mean and standard deviation over all images; constant dimensions get a standard deviation of 1."""
    total = square = torch.zeros((), dtype=torch.float64)
    for values, _ in train.chunks(feature, device):
        total, square = total + values.double().sum(0).cpu(), square + values.double().square().sum(0).cpu()
    mean = total / len(train)
    std = (square / len(train) - mean.square()).clamp(min=0).sqrt()
    std[std < _SMALLEST_STD] = 1.0
    return mean.float().to(device), std.float().to(device)
