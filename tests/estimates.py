"""The result of an estimate, for the tests of its hours and its text."""

ESTIMATE = {
    "device": "a device", "precision": "bf16-mixed", "batch_size": 64, "images": 1000, "epochs": 36,
    "images_known": True, "accumulate_grad_batches": 2, "devices": [1, 4],
    "parameters": {"encoder": 10**6, "projector": 10**6},
    "flops": dict.fromkeys(("encoder", "projector", "teacher", "loss", "backward", "step"), 10.0**9),
    "memory": dict.fromkeys(("weights", "gradients", "optimizer", "image", "batch_size", "peak", "limit"), 8),
    "largest_batch": 70, "timed": {"batch_size": 8, "seconds": [0.8, 0.7, 0.9], "matmul_rate": 1e12},
    "checkpoint": {"bytes": 2**30, "seconds": 1.5, "count": 2},
}  # fmt: skip
