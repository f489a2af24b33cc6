"""Student and teacher of ConMIM (arXiv 2205.09616)."""

from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from conmim_lightning.models.attention import Way
from conmim_lightning.models.encoder import Backbone, Encoder
from conmim_lightning.models.projector import Projector
from conmim_lightning.models.teacher import Teacher

Projected = Literal["all", "needed"]


class Branch(nn.Module):
    """Encoder and projector.

    Args:
        encoder: E.
        projector: takes tokens of the encoder's width.
        projected: "all" tokens, then the prefix tokens are dropped; or those "needed", see ``ConMIM``.
    """

    def __init__(self, encoder: Encoder, projector: Projector, *, projected: Projected = "all") -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.projected = projected

    def forward(self, view: Tensor, mask: Tensor | None = None, rows: Tensor | None = None) -> Tensor:
        """Projected patch tokens.

        Args:
            view: (B, C, H, W).
            mask: (B, h, w) bool, True = hidden; None hides nothing.
            rows: (B, R) numbers of the patches that are asked for; None asks for all.

        Returns:
            (B, N, P); zeros at patches that are neither asked for nor projected.
        """
        tokens, prefix = self.encoder(view, mask), self.encoder.num_prefix_tokens
        if self.projected == "all":
            # official: the class token passes through the projector and enters its BatchNorm statistics.
            return self.projector(tokens)[:, prefix:]
        patches = tokens[:, prefix:]
        if rows is None:
            return self.projector(patches)
        found = self.projector(patches.gather(1, rows[..., None].expand(-1, -1, patches.shape[-1])))
        empty = found.new_zeros(len(found), patches.shape[1], found.shape[-1])
        return empty.scatter(1, rows[..., None].expand_as(found), found)


class ConMIM(nn.Module):
    """The student sees a masked view, the teacher the whole one; what they return is contrasted by a loss.

    Shapes: B images, C channels, H x W pixels, h x w = N patches, P projected width.

    Args:
        backbone: timm backbone, see ``Encoder``.
        projector: factory that makes the projector from ``in_dim``, the encoder's width.
        locality: of the encoder's table of relative positions at the start, see ``Encoder``; 0 is the method.
        projected: "all" tokens, the method. "needed" departs from it to save operations: the student projects its
            hidden patches (and visible ones where an image hides fewer than another), the teacher all patches, nobody
            the class token; the statistics of the projector's BatchNorms are then those of the projected tokens.
        checkpointing: compute each block of the student again in the backward pass instead of keeping what is in it:
            less memory, a quarter more operations in the encoder, the same figures.
        attention: how a backbone with a shared table of relative positions computes it, see ``models.attention.Way``.

    Raises:
        ValueError: ``projected`` is neither.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        projector: Callable[..., Projector],
        locality: float = 0.0,
        projected: Projected = "all",
        checkpointing: bool = False,
        attention: Way = "auto",
    ) -> None:
        super().__init__()
        if projected not in ("all", "needed"):
            raise ValueError(f"projected must be 'all' or 'needed', got {projected!r}")
        encoder = Encoder(backbone, locality=locality, checkpointing=checkpointing, attention=attention)
        self.student = Branch(encoder, projector(in_dim=encoder.embed_dim), projected=projected)
        self.teacher = Teacher(self.student)

    @property
    def teacher_encoder(self) -> Encoder:
        """The network that downstream tasks take (official: the teacher)."""
        return self.teacher.branch.get_submodule("encoder")  # type: ignore[return-value]

    def teach(self, view: Tensor) -> Tensor:
        """(B, C, H, W) whole view -> (B, N, P) keys, without gradient."""
        return self.teacher(view)
