import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from conmim_lightning.data.transforms.crop import CenterSquare
from conmim_lightning.inference.preprocessing import Preprocessing, as_list


def preprocessing() -> Preprocessing:
    return Preprocessing(CenterSquare(32), size=32, mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4])


def test_the_central_square_is_normalised():
    square = load_sample_image("china.jpg")[:32, :32]
    values = preprocessing()(Image.fromarray(square))
    expected = (square / 255 - np.array([0.5, 0.4, 0.3])) / np.array([0.2, 0.3, 0.4])
    np.testing.assert_allclose(values.permute(1, 2, 0).numpy(), expected, atol=1e-5)
    assert torch.equal(preprocessing().batch([Image.fromarray(square)] * 2)[1], values)


def test_an_unreadable_image_is_named():
    with pytest.raises(ValueError, match=r"'nothing.jpg' cannot be read: FileNotFoundError"):
        preprocessing()("nothing.jpg")


def test_settings_are_shown():
    assert repr(preprocessing()) == "Preprocessing(CenterSquare(size=32), mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4])"


def test_one_image_or_several():
    assert as_list("a.jpg") == as_list(["a.jpg"]) == ["a.jpg"]
    assert as_list(b"x") == [b"x"]
    with pytest.raises(TypeError, match="taken by features, not by predict"):
        as_list(torch.zeros(1, 3, 8, 8))
