import torch

from conmim_lightning.batches import PretrainBatch


def test_the_largest_number_of_hidden_patches_is_counted():
    mask = torch.zeros(3, 2, 4, dtype=torch.bool)
    mask[0, 0] = mask[1] = True
    batch = PretrainBatch(torch.zeros(3, 3, 8, 8), torch.zeros(3, 2, 9), mask, torch.arange(3), [""] * 3)
    assert batch.max_hidden == 0
    counted = batch.with_max_hidden()
    assert counted.max_hidden == 8
    assert counted[:5] == batch[:5]
