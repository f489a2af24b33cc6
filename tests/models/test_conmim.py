import torch
from conftest import conmim


def test_student_and_teacher_start_equal():
    model = conmim()
    theirs = dict(model.teacher.branch.named_parameters())
    assert all(torch.equal(p, theirs[name]) for name, p in model.student.named_parameters())


def test_class_token_is_projected_but_not_returned():
    model = conmim()
    seen = []
    model.student.projector.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    queries = model.student(torch.randn(2, 3, 32, 32), torch.ones(2, 4, 4, dtype=torch.bool))
    assert seen == [(2, 17, 16)]
    assert queries.shape == model.teach(torch.randn(2, 3, 32, 32)).shape == (2, 16, 8)


def test_downstream_takes_the_teacher():
    model = conmim()
    assert model.teacher_encoder is model.teacher.branch.encoder
