"""Use of a model in training without effect on its training."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def unchanged(model: nn.Module, *evaluated: nn.Module) -> Iterator[None]:
    """Restore buffers, modes and random numbers at the end.

    Synchronised batch norm uses its running statistics, as other devices do not take part.

    Args:
        model: model to use.
        *evaluated: its modules to use in eval mode.
    """
    modes = {module: module.training for module in model.modules()}
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    for module in (*evaluated, *(each for each in modes if isinstance(each, nn.SyncBatchNorm))):
        module.eval()
    device = next(model.parameters()).device
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        for module, training in modes.items():
            module.training = training
        for name, value in model.named_buffers():
            value.copy_(buffers[name])
