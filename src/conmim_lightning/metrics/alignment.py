"""Metrics of the pretext task, because a decreasing loss is not informative enough."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@torch.no_grad()
def alignment(queries: Tensor, keys: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Return the metrics of one batch.

    Shapes: B images, K patches, C projected width.

    Args:
        queries: (B, K, C) projected student tokens.
        keys: (B, K, C) projected teacher tokens.
        mask: (B, h, w) bool, True = hidden.

    Returns:
        Scalars. ``retrieval_top1``: fraction of the hidden patches whose own key is the most similar of the K.
        ``position_only_top1``: the same with each key replaced by the mean key of the other images at its position.
        ``position_only_fraction``: ratio of the second to the first: how much of the retrieval position alone explains
        (NaN if nothing is retrieved; both are absent for a single image). ``positive_similarity``,
        ``hardest_negative_similarity``: mean cosines of hidden patches. ``key_spread``: standard deviation of
        unit-length keys, averaged over dimensions, times sqrt(C): 1 if they fill the sphere evenly, 0 if they
        collapse. ``key_rank``: effective rank, 1 to C: exp of the entropy of the normalised eigenvalues of the keys'
        covariance.
    """
    with torch.autocast(queries.device.type, enabled=False):
        q, k = F.normalize(queries.float(), dim=-1), F.normalize(keys.float(), dim=-1)
        hidden = mask.flatten(1)
        similarity = q @ k.transpose(1, 2)  # (B, K, K)
        positive = similarity.diagonal(dim1=1, dim2=2)
        others = similarity - 4 * torch.eye(k.shape[1], device=k.device)  # makes the positive smaller than any cosine
        retrieval = _mean_hidden((positive > others.amax(2)).float(), hidden)
        metrics = {
            "retrieval_top1": retrieval,
            "positive_similarity": _mean_hidden(positive, hidden),
            "hardest_negative_similarity": _mean_hidden(others.amax(2), hidden),
            "key_spread": k.flatten(0, 1).std(0).mean() * k.shape[-1] ** 0.5,
            "key_rank": effective_rank(k.flatten(0, 1)),
        }
        if len(k) > 1:
            elsewhere = F.normalize(k.sum(0, keepdim=True) - k, dim=-1)  # mean key of the other images
            by_position = (q @ elsewhere.transpose(1, 2)).argmax(2) == torch.arange(k.shape[1], device=k.device)
            metrics["position_only_top1"] = _mean_hidden(by_position.float(), hidden)
            metrics["position_only_fraction"] = torch.where(
                retrieval > 0, metrics["position_only_top1"] / retrieval, torch.nan
            )
        return metrics


def effective_rank(vectors: Tensor) -> Tensor:
    """Return exp(entropy of the normalised covariance eigenvalues) (Roy, Vetterli 2007); (S, C) -> scalar.

    NaN if a vector is not finite.
    """
    centred = vectors - vectors.mean(0)
    covariance = centred.T @ centred
    finite = covariance.isfinite().all()
    covariance = torch.where(finite, covariance, 0.0)  # the solver requires finite values
    if covariance.device.type == "mps":  # MPS has no eigenvalue solver
        covariance = covariance.cpu()
    eigenvalues = torch.linalg.eigvalsh(covariance).clamp(min=0)
    fraction = eigenvalues / eigenvalues.sum().clamp(min=torch.finfo(eigenvalues.dtype).tiny)
    return torch.where(finite, torch.exp(-torch.xlogy(fraction, fraction).sum()), torch.nan)


@torch.no_grad()
def relative_distance(module: nn.Module, reference: nn.Module) -> Tensor:
    """Return the norm of the difference of all parameters divided by the norm of the reference's parameters."""
    first, second = [[p.detach() for p in module.parameters()] for module in (module, reference)]
    difference = torch.stack(torch._foreach_norm(torch._foreach_sub(first, second))).norm()
    return difference / torch.stack(torch._foreach_norm(second)).norm()


def _mean_hidden(values: Tensor, hidden: Tensor) -> Tensor:
    return (values * hidden).sum() / hidden.sum()
