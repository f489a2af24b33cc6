"""DDP without synchronisation of buffers."""

import inspect
from datetime import timedelta
from typing import Any

from lightning.pytorch.strategies import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

_ARGUMENTS = ("forward_sync_buffers", "broadcast_buffers")  # newer versions of torch deprecate the second


class LocalBuffersDDPStrategy(DDPStrategy):
    """``DDPStrategy`` in which each device has its own BatchNorm statistics, as in the official code.

    Args:
        timeout: seconds that an operation waits for the other ranks, > 0.
        **kwargs: see ``DDPStrategy`` and ``DistributedDataParallel``.

    Raises:
        ValueError: timeout is not positive.
    """

    def __init__(self, timeout: float = 1800.0, **kwargs: Any) -> None:
        if not timeout > 0:
            raise ValueError(f"trainer.strategy.timeout must be above 0 seconds, got {timeout}")
        known = inspect.signature(DistributedDataParallel.__init__).parameters
        argument = next(name for name in _ARGUMENTS if name in known)
        arguments: dict[str, Any] = {argument: False, "timeout": timedelta(seconds=timeout)} | kwargs
        super().__init__(**arguments)
