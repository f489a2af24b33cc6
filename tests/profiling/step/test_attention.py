import torch
from conftest import beit

from conmim_lightning.models.attention import IMPLEMENTATIONS, align_rows
from conmim_lightning.models.encoder import Encoder
from conmim_lightning.profiling.step.attention import attention_shape, time_attention

SHAPE = {"batch_size": 2, "heads": 2, "tokens": 5, "width": 4}


def test_implementations_agree():
    inputs = [torch.randn(2, 3, 5, 4, dtype=torch.float64) for _ in range(3)]
    bias = torch.randn(1, 3, 5, 5, dtype=torch.float64)
    aligned = align_rows(bias)
    assert aligned.stride() == (120, 40, 8, 1)
    expected = IMPLEMENTATIONS["eager"](*inputs, bias)
    torch.testing.assert_close(IMPLEMENTATIONS["sdpa"](*inputs, aligned), expected)


def test_implementations_are_timed(monkeypatch):
    def missing(*inputs):
        raise RuntimeError("No available kernel.\nAborting execution.")

    results = time_attention(torch.device("cpu"), torch.bfloat16, **SHAPE)
    assert list(results) == ["eager", "sdpa"]
    assert all(times["no_gradient"] > 0 and times["gradient"] > 0 for times in results.values())
    monkeypatch.setitem(IMPLEMENTATIONS, "sdpa", missing)
    assert time_attention(torch.device("cpu"), None, **SHAPE)["sdpa"] == {"error": "RuntimeError: No available kernel."}


def test_the_shape_is_that_of_the_encoder():
    assert attention_shape(Encoder(beit())) == {"heads": 2, "tokens": 17, "width": 8}
