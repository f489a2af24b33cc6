from functools import partial

import pytest
import torch
from conftest import beit

from conmim_lightning.models.conmim import ConMIM
from conmim_lightning.models.pixel_targets import LinearPrediction, PixelTargets


def model():
    return ConMIM(beit(), projector=partial(LinearPrediction, patch_size=8), teacher=PixelTargets)


def test_targets_are_the_pixels_of_each_patch():
    view = torch.randn(2, 3, 32, 32)
    targets = model().teach(view)
    assert targets.shape == (2, 16, 3 * 64)
    row, column = 2, 1
    patch = view[1, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
    assert torch.equal(targets[1, 4 * row + column].view(3, 8, 8), patch)


def test_predictions_fit_the_targets_and_there_is_no_teacher():
    regression = model()
    view, mask = torch.randn(2, 3, 32, 32), torch.rand(2, 4, 4) < 0.5
    assert regression.student(view, mask).shape == regression.teach(view).shape
    assert not regression.has_teacher
    assert not list(regression.teacher.parameters())
    assert regression.teacher_encoder is regression.student.encoder
    regression.teacher.update(regression.student, 0.9)


def test_wrong_numbers():
    for wrong in ({"in_dim": 0}, {"patch_size": 0}, {"in_chans": -1}):
        with pytest.raises(ValueError, match="must be positive"):
            LinearPrediction(**({"in_dim": 8, "patch_size": 4} | wrong))
