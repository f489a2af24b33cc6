import torch
from conftest import conmim
from pretraining import drawn, make_task

from conmim_lightning.profiling.step.train_step import PHASES, TrainStep


def test_phases_are_marked_in_order():
    model = conmim(img_size=24)
    views, mask = drawn(model, 4)
    marks = []
    step = TrainStep(make_task(model=model), batch_size=4, precision="32-true", compiled=False)
    step(views, mask, 0.9, marks.append)
    assert tuple(marks) == PHASES


def test_the_configured_norm_is_the_limit_of_clipping():
    model = conmim()
    views, mask = drawn(model, 4)
    task = make_task(model=model, max_grad_norm=1e-9, optimizer=lambda groups: torch.optim.SGD(groups, lr=1.0))
    before = torch.cat([parameter.detach().flatten() for parameter in model.student.parameters()])
    TrainStep(task, batch_size=4, precision="32-true", compiled=False)(views, mask, 0.9)
    after = torch.cat([parameter.detach().flatten() for parameter in model.student.parameters()])
    assert (after - before).norm() < 1e-5
