import torch
from conftest import conmim
from pretraining import held_out_batch, make_task

from conmim_lightning.callbacks.reports.image_rows import image_rows


def test_a_row_shows_a_hidden_patch_and_its_similarities():
    task = make_task()
    batch = held_out_batch(task.model)
    for row, mask in zip(image_rows(task, batch, None), batch.mask, strict=True):
        y, x = row.query
        assert mask[y, x], "the query is a hidden patch"
        assert row.similarity.shape == mask.shape
        assert row.similarity.abs().max() <= 1 + 1e-5
        assert row.student_view.shape == row.teacher_view.shape == (32, 32, 3)
        side = 8
        assert (row.student_view[y * side : (y + 1) * side, x * side : (x + 1) * side] == 0.5).all(), "hidden is grey"
        assert row.object_map is None


def test_the_model_stays_as_it_was():
    task = make_task(model=conmim(drop_path_rate=0.5))
    batch = held_out_batch(task.model)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    modes = [module.training for module in task.modules()]
    random = torch.get_rng_state()
    image_rows(task, batch, None)
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    assert [module.training for module in task.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
