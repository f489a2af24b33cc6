import torch
from pretraining import held_out_batch, make_task

from conmim_lightning.visualization.matching import query_panels


def test_squares_and_arrows_are_the_retrieval():
    task = make_task()
    batch = held_out_batch(task.model, 3)
    with torch.no_grad():
        views = task.perturbation(batch.crop, batch.perturbation)
        nearest = task.similarity(*views, batch.mask).argmax(-1)
    for index, row in enumerate(query_panels(task, batch)):
        hidden = batch.mask[index].flatten().nonzero().squeeze(1).tolist()
        right = [divmod(patch, 4) for patch in hidden if nearest[index, patch] == patch]
        wrong = [
            (divmod(patch, 4), divmod(int(nearest[index, patch]), 4))
            for patch in hidden
            if nearest[index, patch] != patch
        ]
        assert list(row[2].marks) == right
        assert list(row[2].arrows) == wrong
        assert row[2].title == f"{len(right)} of {len(hidden)} match"
        covered = batch.mask[index].repeat_interleave(8, 0).repeat_interleave(8, 1)
        assert (row[0].image[covered] == 0.5).all()
