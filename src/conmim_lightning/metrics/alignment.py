"""How the pretext task stands, because a falling loss says little."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@torch.no_grad()
def alignment(queries: Tensor, keys: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Figures of one batch.

    Shapes: B images, K patches, C projected width.

    Args:
        queries: (B, K, C).
        keys: (B, K, C).
        mask: (B, h, w) bool, True = hidden.

    Returns:
        Scalars. ``retrieval_top1``: share of the hidden patches whose own key is the most similar of the K.
        ``position_only_top1``: the same with every key replaced by the mean key of the other images at its position;
        ``position_only_share``: the latter over the former, how much of the retrieval position alone explains (NaN
        where nothing is retrieved; both are absent for a single image). ``positive_similarity``,
        ``hardest_negative_similarity``: mean cosines of hidden patches.
        ``key_spread``: mean over dimensions of the standard deviation of unit-length keys times sqrt(C), 1 when they
        fill the sphere evenly, 0 when they collapse. ``key_rank``: effective rank, exp of the entropy of the
        normalised eigenvalues of the keys' covariance, 1 to C.
    """
    with torch.autocast(queries.device.type, enabled=False):
        q, k = F.normalize(queries.float(), dim=-1), F.normalize(keys.float(), dim=-1)
        hidden = mask.flatten(1)
        similarity = q @ k.transpose(1, 2)  # (B, K, K)
        positive = similarity.diagonal(dim1=1, dim2=2)
        others = similarity - 4 * torch.eye(k.shape[1], device=k.device)  # puts the positive below any cosine
        retrieval = _mean_hidden((positive > others.amax(2)).float(), hidden)
        figures = {
            "retrieval_top1": retrieval,
            "positive_similarity": _mean_hidden(positive, hidden),
            "hardest_negative_similarity": _mean_hidden(others.amax(2), hidden),
            "key_spread": k.flatten(0, 1).std(0).mean() * k.shape[-1] ** 0.5,
            "key_rank": effective_rank(k.flatten(0, 1)),
        }
        if len(k) > 1:
            elsewhere = F.normalize(k.sum(0, keepdim=True) - k, dim=-1)  # mean key of the other images
            by_position = (q @ elsewhere.transpose(1, 2)).argmax(2) == torch.arange(k.shape[1], device=k.device)
            figures["position_only_top1"] = _mean_hidden(by_position.float(), hidden)
            figures["position_only_share"] = torch.where(
                retrieval > 0, figures["position_only_top1"] / retrieval, torch.nan
            )
        return figures


def effective_rank(vectors: Tensor) -> Tensor:
    """exp(entropy of the normalised eigenvalues of the covariance) (Roy, Vetterli 2007); (S, C) -> scalar.

    NaN where a vector is not finite.
    """
    centred = vectors - vectors.mean(0)
    covariance = centred.T @ centred
    finite = covariance.isfinite().all()
    covariance = torch.where(finite, covariance, 0.0)  # the solver refuses all else
    if covariance.device.type == "mps":  # which has no eigenvalues
        covariance = covariance.cpu()
    eigenvalues = torch.linalg.eigvalsh(covariance).clamp(min=0)
    share = eigenvalues / eigenvalues.sum().clamp(min=torch.finfo(eigenvalues.dtype).tiny)
    return torch.where(finite, torch.exp(-torch.xlogy(share, share).sum()), torch.nan)


@torch.no_grad()
def relative_distance(one: nn.Module, other: nn.Module) -> Tensor:
    """Length of the difference of all parameters over the length of ``other``'s."""
    mine: list[Tensor] = list(one.parameters())
    theirs: list[Tensor] = list(other.parameters())
    difference = torch.stack(torch._foreach_norm(torch._foreach_sub(mine, theirs))).norm()
    return difference / torch.stack(torch._foreach_norm(theirs)).norm()


def _mean_hidden(values: Tensor, hidden: Tensor) -> Tensor:
    return (values * hidden).sum() / hidden.sum()
