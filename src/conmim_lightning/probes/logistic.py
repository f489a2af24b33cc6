"""Logistic regression by L-BFGS: the cheap twin of a linear probe."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conmim_lightning.probes.rows import Rows, check_ways

_LEAST_SPREAD = 1e-6


class LogisticProbe(nn.Module):
    """Multinomial logistic regression on standardised features, for several penalties, chosen on held-out images.

    Minimises the mean cross-entropy plus penalty / 2 times the squared weights (not the offsets). All images take part
    in each step; they are read in chunks, so memory does not grow with them.

    Shapes: B images, K classes, D length of features.

    Args:
        num_classes: K.
        widths: length of the features by way.
        ways: which features, null for all; the best way is chosen together with the best penalty.
        penalties: each >= 0; with a single way and penalty nothing needs to be held out.
        max_iterations: of L-BFGS.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        widths: Mapping[str, int],
        ways: Sequence[str] | None = None,
        penalties: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1),
        max_iterations: int = 200,
    ) -> None:
        super().__init__()
        if not penalties or min(penalties) < 0 or max_iterations < 1:
            raise ValueError(
                f"logistic regression needs penalties >= 0 and max_iterations >= 1, got {list(penalties)} and "
                f"{max_iterations}"
            )
        self.num_classes = num_classes
        self.variants = [""]
        self.ways = list(widths if ways is None else ways)
        check_ways(self.ways, widths)
        self.penalties = list(penalties)
        self.max_iterations = max_iterations
        self.way, self.penalty = self.ways[0], self.penalties[0]
        self.solution: dict[str, Tensor] = {}

    def fit(self, train: Rows, selection: Rows | None, device: Any) -> dict[str, float]:
        """Solve for every way and penalty and keep the best; returns its share of right held-out answers.

        Raises:
            ValueError: there is something to choose but nothing was held out.
        """
        settings = [(way, penalty) for way in self.ways for penalty in sorted(self.penalties, reverse=True)]
        if selection is None and len(settings) > 1:
            raise ValueError(f"{len(settings)} settings to choose from need held-out images: data.held_out_share=0.1")
        best, start = -1.0, {}
        for way, penalty in settings:
            solution = self._solve(train, way, penalty, device, start.get(way))
            start[way] = solution["weight"]
            share = self._share(solution, selection, way, device) if selection is not None else 0.0
            if share > best:
                best, self.way, self.penalty, self.solution = share, way, penalty, solution
        return {"selection_top1": best} if selection is not None else {}

    def forward(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Features by way to (B, K) probabilities, by ""."""
        return {"": _logits(self.solution, features[self.way]).softmax(1)}

    def get_extra_state(self) -> dict[str, Any]:
        """What was solved and chosen."""
        return {"solution": self.solution, "way": self.way, "penalty": self.penalty}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take a solution."""
        self.solution, self.way, self.penalty = state["solution"], state["way"], state["penalty"]

    def _solve(self, train: Rows, way: str, penalty: float, device: Any, start: Tensor | None) -> dict[str, Tensor]:
        """Weight (K, D + 1), the offset last, for standardised features."""
        mean, spread = _moments(train, way, device)
        shape = (self.num_classes, len(mean) + 1)
        weight = torch.zeros(shape, device=device) if start is None else start.clone()
        weight.requires_grad_()
        optimizer = torch.optim.LBFGS([weight], max_iter=self.max_iterations, line_search_fn="strong_wolfe")
        solution = {"weight": weight, "mean": mean, "spread": spread}

        def objective() -> Tensor:
            optimizer.zero_grad()
            total = torch.zeros((), device=device)
            for part, labels in train.chunks(way, device):
                loss = F.cross_entropy(_logits(solution, part), labels, reduction="sum") / len(train)
                loss.backward()
                total += loss.detach()
            decay = penalty / 2 * weight[:, :-1].square().sum()
            decay.backward()
            return total + decay.detach()

        with torch.enable_grad(), torch.autocast(torch.device(device).type, enabled=False):
            optimizer.step(objective)
        return solution | {"weight": weight.detach()}

    @torch.no_grad()
    def _share(self, solution: dict[str, Tensor], rows: Rows, way: str, device: Any) -> float:
        right = sum(
            int((_logits(solution, part).argmax(1) == labels).sum()) for part, labels in rows.chunks(way, device)
        )
        return right / len(rows)


def _logits(solution: dict[str, Tensor], features: Tensor) -> Tensor:
    moved = {name: value.to(features.device) for name, value in solution.items()}
    standard = (features - moved["mean"]) / moved["spread"]
    return F.linear(standard, moved["weight"][:, :-1], moved["weight"][:, -1])


def _moments(train: Rows, way: str, device: Any) -> tuple[Tensor, Tensor]:
    """(D,) mean and spread over all images; where features do not vary the spread counts as 1."""
    total = square = torch.zeros((), dtype=torch.float64)
    for part, _ in train.chunks(way, device):
        total, square = total + part.double().sum(0).cpu(), square + part.double().square().sum(0).cpu()
    mean = total / len(train)
    spread = (square / len(train) - mean.square()).clamp(min=0).sqrt()
    spread[spread < _LEAST_SPREAD] = 1.0
    return mean.float().to(device), spread.float().to(device)
