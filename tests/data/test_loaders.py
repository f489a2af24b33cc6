from conmim_lightning.data.loaders import evaluation_loader, train_loader
from conmim_lightning.data.sampler import EpochSampler, SampleKey


def test_training_batches_are_whole():
    data = {SampleKey(0, index): index for index in range(11)}
    loader = train_loader(
        data,  # type: ignore[arg-type]
        sampler=EpochSampler(11, seed=0),
        batch_size=4,
        num_workers=0,
        pin_memory=False,
    )
    batches = [batch.tolist() for batch in loader]
    assert [len(batch) for batch in batches] == [4, 4]
    assert len(loader) == 2


def test_evaluation_has_every_sample_once_over_devices():
    parts = [
        [
            int(index)
            for batch in evaluation_loader(list(range(11)), batch_size=3, num_workers=0, rank=rank, num_devices=2)  # type: ignore[arg-type]
            for index in batch
        ]
        for rank in range(2)
    ]
    assert parts == [[0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9]]


def test_evaluation_of_an_evenly_spaced_part():
    parts = []
    for rank in range(2):
        loader = evaluation_loader(list(range(100)), batch_size=3, num_workers=0, rank=rank, num_devices=2, limit=5)  # type: ignore[arg-type]
        parts.append([int(index) for batch in loader for index in batch])
    assert parts == [[0, 40, 80], [20, 60]]
