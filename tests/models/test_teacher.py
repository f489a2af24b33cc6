import copy

import pytest
import torch
from conftest import conmim


def moved():
    """A student that differs from its teacher."""
    model = conmim(drop_path_rate=0.5)
    for parameter in model.student.parameters():
        torch.nn.init.normal_(parameter)
    return model


@pytest.mark.parametrize("momentum", [0.0, 0.3, 1.0])
def test_update(momentum):
    model = moved()
    before = copy.deepcopy(model.teacher)
    model.teacher.update(model.student, momentum)
    for name, parameter in model.teacher.branch.named_parameters():
        old, student = before.branch.get_parameter(name), model.student.get_parameter(name)
        torch.testing.assert_close(parameter, momentum * old + (1 - momentum) * student)


def test_momentum_zero_is_the_student_itself():
    model = moved()
    model.teacher.update(model.student, 0.0)
    assert all(torch.equal(p, model.student.get_parameter(n)) for n, p in model.teacher.branch.named_parameters())


def test_buffers_stay_the_teachers_own():
    model = moved()
    model.student.projector(torch.randn(4, 5, 16) + 3)  # moves the student's running averages
    before = {name: buffer.clone() for name, buffer in model.teacher.branch.named_buffers()}
    model.teacher.update(model.student, 0.5)
    assert all(torch.equal(before[name], buffer) for name, buffer in model.teacher.branch.named_buffers())
    assert not torch.equal(
        model.student.get_buffer("projector.layers.1.running_mean"), before["projector.layers.1.running_mean"]
    )


@pytest.mark.parametrize("mode", [True, False])
def test_mode_is_set_in_one_place(mode):
    model = moved()
    model.train(mode)
    assert not model.teacher.branch.encoder.training  # no drop path in the targets
    assert all(m.training for m in model.teacher.branch.projector.modules())  # batch statistics, as official


def test_no_gradient():
    model = moved()
    keys = model.teach(torch.randn(2, 3, 32, 32))
    assert not keys.requires_grad
    assert not any(parameter.requires_grad for parameter in model.teacher.parameters())
