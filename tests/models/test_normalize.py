import pytest
import torch

from conmim_lightning.models.normalize import Normalize


def test_each_channel_by_its_own_numbers():
    normalize = Normalize([0.0, 0.5], [1.0, 0.25])
    images = torch.tensor([[0, 255], [0, 255]], dtype=torch.uint8).view(1, 2, 1, 2)
    assert normalize(images).flatten().tolist() == [0.0, 1.0, -2.0, 2.0]
    assert not normalize.state_dict(), "a checkpoint does not hold the numbers, which are the data's"


@pytest.mark.parametrize(("mean", "std"), [([0.5], [0.2, 0.2]), ([0.5, 0.5], [0.2, 0.0])])
def test_bad_numbers(mean, std):
    with pytest.raises(ValueError, match="one entry per channel, std above 0"):
        Normalize(mean, std)
