from torch.utils.data import default_collate

from conmim_lightning.data.loaders import evaluation_loader, train_loader
from conmim_lightning.data.samplers.epoch import EpochSampler, SampleKey


class Numbers:
    """A dataset whose samples are their indices."""

    collate = staticmethod(default_collate)

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, key):
        return key.index if isinstance(key, SampleKey) else key


def test_training_batches_are_whole():
    loader = train_loader(
        Numbers(11),  # type: ignore[arg-type]
        sampler=EpochSampler(11, seed=0),
        batch_size=4,
        num_workers=0,
        pin_memory=False,
    )
    batches = [batch.tolist() for batch in loader]
    assert [len(batch) for batch in batches] == [4, 4]
    assert len(loader) == 2


def test_evaluation_has_every_sample_once_over_devices():
    ranks = [
        [
            int(index)
            for batch in evaluation_loader(Numbers(11), batch_size=3, num_workers=0, rank=rank, num_devices=2)  # type: ignore[arg-type]
            for index in batch
        ]
        for rank in range(2)
    ]
    assert ranks == [[0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9]]


def test_evaluation_of_evenly_spaced_samples():
    ranks = []
    for rank in range(2):
        loader = evaluation_loader(Numbers(100), batch_size=3, num_workers=0, rank=rank, num_devices=2, limit=5)  # type: ignore[arg-type]
        ranks.append([int(index) for batch in loader for index in batch])
    assert ranks == [[0, 40, 80], [20, 60]]
