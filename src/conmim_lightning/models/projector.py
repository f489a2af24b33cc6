"""The projector that both branches apply to every token (ConMIM, arXiv 2205.09616)."""

from torch import Tensor, nn

from conmim_lightning.models.init import init_weights


class Projector(nn.Module):
    """Two times Linear, BatchNorm, ReLU; then Linear and BatchNorm without affine parameters; no linear biases.

    official: widths 4096, 4096, 256 for every model size; BatchNorm computes its statistics over all tokens of one
    device, prefix tokens included, and is not synchronised.

    Shapes: B images, T tokens, D encoder width, C = out_dim.

    Args:
        in_dim: D.
        hidden_dim: width of both hidden layers.
        out_dim: C.

    Raises:
        ValueError: a width is below 1.
    """

    def __init__(self, *, in_dim: int, hidden_dim: int = 4096, out_dim: int = 256) -> None:
        super().__init__()
        if min(in_dim, hidden_dim, out_dim) < 1:
            raise ValueError(f"projector widths must be positive, got {in_dim}, {hidden_dim}, {out_dim}")
        self.layers = nn.Sequential(
            nn.Linear(in_dim, hidden_dim, bias=False),
            nn.BatchNorm1d(hidden_dim),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_dim, hidden_dim, bias=False),
            nn.BatchNorm1d(hidden_dim),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_dim, out_dim, bias=False),
            nn.BatchNorm1d(out_dim, affine=False),
        )
        self.apply(init_weights)

    def forward(self, tokens: Tensor) -> Tensor:
        """Project tokens: (B, T, D) -> (B, T, C)."""
        return self.layers(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
