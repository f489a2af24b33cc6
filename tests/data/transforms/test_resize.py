import numpy as np
import torch
from PIL import Image

from conmim_lightning.data.transforms.resize import resize_nearest


def test_maps_are_resized_to_the_nearest():
    label = torch.arange(4).view(2, 2).to(torch.int16)
    assert resize_nearest(label, (4, 4)).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    assert resize_nearest(label, (1, 1)).tolist() == [[3]]
    big = torch.randint(0, 100, (31, 17), dtype=torch.int16)
    pillow = Image.fromarray(big.numpy().astype(np.uint8)).resize((40, 13), Image.Resampling.NEAREST)
    assert np.array_equal(resize_nearest(big, (13, 40)).numpy(), np.asarray(pillow))
