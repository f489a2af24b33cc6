"""Modules for use alone."""

from typing import Self

import torch
from torch import nn


class FrozenModule(nn.Module):
    """A module that stays in eval mode; ``freeze`` ends the gradients of its weights."""

    @property
    def device(self) -> torch.device:
        """Device of the weights; ``to`` changes it."""
        return next(self.parameters()).device

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode."""
        return super().train(False)

    def freeze(self) -> Self:
        """Set eval mode, and end the gradients of all weights."""
        return self.requires_grad_(False).eval()
