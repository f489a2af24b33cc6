import pytest
import torch
from conftest import conmim


def test_student_and_teacher_start_equal():
    model = conmim()
    teacher = dict(model.teacher.branch.named_parameters())
    assert all(torch.equal(p, teacher[name]) for name, p in model.student.named_parameters())


def test_class_token_is_projected_but_not_returned():
    model = conmim()
    inputs_seen = []
    model.student.projector.register_forward_pre_hook(lambda module, inputs: inputs_seen.append(inputs[0].shape))
    queries = model.student(torch.randn(2, 3, 32, 32), torch.ones(2, 4, 4, dtype=torch.bool))
    assert inputs_seen == [(2, 17, 16)]
    assert queries.shape == model.teach(torch.randn(2, 3, 32, 32)).shape == (2, 16, 8)


def test_downstream_tasks_use_the_teacher():
    model = conmim()
    assert model.teacher_encoder is model.teacher.branch.encoder


def test_only_masked_patches_are_projected():
    model = conmim(project="masked")
    inputs_seen = []
    for branch in (model.student, model.teacher.branch):
        branch.projector.register_forward_pre_hook(lambda module, inputs: inputs_seen.append(inputs[0]))
    view, mask = torch.randn(2, 3, 32, 32), torch.zeros(2, 4, 4, dtype=torch.bool)
    mask[0, 0, 1] = mask[0, 3, 3] = mask[1, 1, 0] = mask[1, 1, 1] = True
    rows = torch.tensor([[1, 15], [4, 5]])
    queries = model.student(view, mask, rows)
    assert model.teach(view).shape == queries.shape == (2, 16, 8)
    assert [tokens.shape for tokens in inputs_seen] == [(2, 2, 16), (2, 16, 16)], "hidden patches; all patches"
    tokens = model.student.encoder(view, mask)[:, 1:]
    assert torch.equal(inputs_seen[0], torch.stack([tokens[0, [1, 15]], tokens[1, [4, 5]]]))
    hidden = mask.flatten(1)
    assert (queries[~hidden] == 0).all()
    assert torch.equal(queries[hidden], model.student.projector(inputs_seen[0]).flatten(0, 1))


def test_bad_project():
    with pytest.raises(ValueError, match="'some'"):
        conmim(project="some")


def test_checkpointing_stores_less_and_changes_nothing():
    losses, gradients, stored = [], [], []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = conmim(checkpointing=checkpointing, depth=4, drop_path_rate=0.5)
        view, sizes = torch.randn(4, 3, 32, 32), []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: (s.append(t.numel()), t)[1], lambda t: t):
            loss = model.student(view, torch.ones(4, 4, 4, dtype=torch.bool)).square().mean()
        loss.backward()
        losses.append(loss)
        gradients.append([parameter.grad for parameter in model.student.parameters()])
        stored.append(sum(sizes))
    assert torch.equal(*losses)
    assert all(one is other is None or torch.equal(one, other) for one, other in zip(*gradients, strict=True))
    assert stored[1] < 0.5 * stored[0]
