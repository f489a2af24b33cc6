"""The teacher: a moving average of the student (ConMIM, arXiv 2205.09616)."""

import copy
from typing import Self

import torch
from torch import Tensor, nn


class Teacher(nn.Module):
    """A copy of the student's branch without gradients, whose parameters are a moving average of the student's.

    ``ConMIM`` accepts any module of this interface as the target of the pretext task: it is built from the student,
    maps a view to one target per patch and is updated after every optimizer step.

    Args:
        branch: student branch to copy.
    """

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = copy.deepcopy(branch).requires_grad_(False)
        self.train()

    @torch.no_grad()
    def forward(self, view: Tensor) -> Tensor:
        """Return the keys of all patches: (B, C, H, W) whole view -> (B, N, P)."""
        return self.branch(view)

    @torch.no_grad()
    def update(self, student: nn.Module, momentum: float) -> None:
        """Set teacher = momentum * teacher + (1 - momentum) * student for parameters; buffers are not changed.

        Args:
            student: student's branch.
            momentum: momentum of the moving average, in [0, 1]; 0 copies the student.
        """
        averages: list[Tensor] = list(self.branch.parameters())
        current: list[Tensor] = list(student.parameters())
        torch._foreach_lerp_(averages, current, 1 - momentum)

    def train(self, mode: bool = True) -> Self:
        """Set the teacher's mode, which ignores ``mode``; only this method sets it.

        official: the teacher is never put in eval mode, so its projector's BatchNorm uses the batch's own statistics.
        differs from official: the encoder stays in eval mode, so that a student with drop path does not get random
        targets; without drop path, as in the recipe, there is no difference.
        """
        super().train(mode)
        self.branch.get_submodule("encoder").eval()
        self.branch.get_submodule("projector").train()
        return self
