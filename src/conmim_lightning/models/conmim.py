"""Student and teacher of ConMIM (arXiv 2205.09616)."""

from collections.abc import Callable
from typing import Literal, cast

from torch import Tensor, nn

from conmim_lightning.models.attention import Implementation
from conmim_lightning.models.backbones import Backbone
from conmim_lightning.models.encoder import Encoder
from conmim_lightning.models.projector import Projector
from conmim_lightning.models.teacher import Teacher

Project = Literal["all", "masked"]


class Branch(nn.Module):
    """Encoder and projector.

    Args:
        encoder: encoder of images.
        projector: projector of tokens of the encoder's width.
        project: tokens to project, "all" (prefix tokens are dropped afterwards) or "masked", see ``ConMIM``.
    """

    def __init__(self, encoder: Encoder, projector: nn.Module, *, project: Project = "all") -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.project = project

    def forward(self, view: Tensor, mask: Tensor | None = None, indices: Tensor | None = None) -> Tensor:
        """Encode and project the patches of a view.

        Args:
            view: (B, C, H, W).
            mask: (B, h, w) bool, True = hidden; None hides nothing.
            indices: (B, R) indices of the patches to project; None for all.

        Returns:
            (B, N, P) projected patches; zeros at patches that are not projected.
        """
        tokens, prefix = self.encoder(view, mask), self.encoder.num_prefix_tokens
        if self.project == "all":
            # official: the class token passes through the projector and enters its BatchNorm statistics.
            return self.projector(tokens)[:, prefix:]
        patches = tokens[:, prefix:]
        if indices is None:
            return self.projector(patches)
        projected = self.projector(patches.gather(1, indices[..., None].expand(-1, -1, patches.shape[-1])))
        zeros = projected.new_zeros(len(projected), patches.shape[1], projected.shape[-1])
        return zeros.scatter(1, indices[..., None].expand_as(projected), projected)


class ConMIM(nn.Module):
    """Student, which receives a masked view, and teacher, which receives the whole view; a loss compares their patches.

    Shapes: B images, C channels, H x W pixels, h x w = N patches, P projected width.

    Args:
        backbone: timm backbone, see ``Encoder``.
        projector: factory that takes ``in_dim``, the encoder's width.
        teacher: factory of the target network that takes the student's branch; the method: ``Teacher``.
        locality: see ``Encoder``; 0 is the method.
        project: "all" tokens (the method). "masked" departs from it to save operations: the student projects only its
            hidden patches (and visible ones if an image hides fewer than another), the teacher all patches, and neither
            the class token; the projector's BatchNorm then has the statistics of these tokens only.
        checkpointing: whether to recompute the student's blocks in the backward pass: less memory, 1/4 more operations
            in the encoder, the same result.
        attn_implementation: see ``models.attention.Implementation``.

    Raises:
        ValueError: ``project`` is unknown, or the backbone does not fit.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        projector: Callable[..., nn.Module] = Projector,
        teacher: Callable[[nn.Module], nn.Module] = Teacher,
        locality: float = 0.0,
        project: Project = "all",
        checkpointing: bool = False,
        attn_implementation: Implementation = "auto",
    ) -> None:
        super().__init__()
        if project not in ("all", "masked"):
            raise ValueError(f"project must be 'all' or 'masked', got {project!r}")
        encoder = Encoder(
            backbone, locality=locality, checkpointing=checkpointing, attn_implementation=attn_implementation
        )
        self.student = Branch(encoder, projector(in_dim=encoder.embed_dim), project=project)
        self.teacher = cast(Teacher, teacher(self.student))

    @property
    def has_teacher(self) -> bool:
        """Whether the target is a network with its own encoder."""
        return hasattr(self.teacher, "branch")

    @property
    def teacher_encoder(self) -> Encoder:
        """The encoder for downstream tasks (official: the teacher's); the student's if the target has no encoder."""
        branch = self.teacher.branch if self.has_teacher else self.student
        return cast(Encoder, branch.get_submodule("encoder"))

    def teach(self, view: Tensor) -> Tensor:
        """Return the keys without gradient: (B, C, H, W) whole view -> (B, N, P)."""
        return self.teacher(view)
