import inspect
from datetime import timedelta

import pytest
from torch.nn.parallel import DistributedDataParallel

from conmim_lightning.runtime.ddp_strategy import LocalBuffersDDPStrategy


def test_buffers_are_not_synchronised_without_a_deprecated_argument():
    strategy = LocalBuffersDDPStrategy(gradient_as_bucket_view=True)
    newer = "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters
    name = "forward_sync_buffers" if newer else "broadcast_buffers"
    assert strategy._ddp_kwargs == {name: False, "gradient_as_bucket_view": True}


def test_the_timeout_is_in_seconds():
    assert LocalBuffersDDPStrategy(timeout=60)._timeout == timedelta(minutes=1)
    with pytest.raises(ValueError, match="above 0 seconds, got 0"):
        LocalBuffersDDPStrategy(timeout=0)
