"""Student and teacher of ConMIM (arXiv 2205.09616)."""

from collections.abc import Callable

from torch import Tensor, nn

from conmim_lightning.models.encoder import Backbone, Encoder
from conmim_lightning.models.projector import Projector
from conmim_lightning.models.teacher import Teacher


class Branch(nn.Module):
    """Encoder and projector; every token is projected, then the prefix tokens are dropped.

    Args:
        encoder: E.
        projector: takes tokens of the encoder's width.
    """

    def __init__(self, encoder: Encoder, projector: Projector) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector

    def forward(self, view: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W) view and (B, h, w) mask -> (B, N, C) projected patch tokens."""
        # official: the class token passes through the projector and enters its BatchNorm statistics.
        return self.projector(self.encoder(view, mask))[:, self.encoder.num_prefix_tokens :]


class ConMIM(nn.Module):
    """The student sees a masked view, the teacher the whole one; what they return is contrasted by a loss.

    Shapes: B images, C channels, H x W pixels, h x w = N patches, P projected width.

    Args:
        backbone: timm backbone, see ``Encoder``.
        projector: factory that makes the projector from ``in_dim``, the encoder's width.
        locality: of the encoder's table of relative positions at the start, see ``Encoder``; 0 is the method.
    """

    def __init__(self, *, backbone: Backbone, projector: Callable[..., Projector], locality: float = 0.0) -> None:
        super().__init__()
        encoder = Encoder(backbone, locality=locality)
        self.student = Branch(encoder, projector(in_dim=encoder.embed_dim))
        self.teacher = Teacher(self.student)

    @property
    def teacher_encoder(self) -> Encoder:
        """The network that downstream tasks take (official: the teacher)."""
        return self.teacher.branch.get_submodule("encoder")  # type: ignore[return-value]

    def teach(self, view: Tensor) -> Tensor:
        """(B, C, H, W) whole view -> (B, N, P) keys, without gradient."""
        return self.teacher(view)
