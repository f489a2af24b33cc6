import itertools

import torch

from conmim_lightning.rng import generator, stream_seed


def test_same_three_numbers_give_the_same_stream():
    first, second = (torch.rand(5, generator=generator(1, 2, 3)) for _ in range(2))
    assert torch.equal(first, second)


def test_any_change_gives_another_stream():
    draws = {
        tuple(torch.rand(2, generator=generator(*words)).tolist()) for words in itertools.product((0, 1, 2), repeat=3)
    }
    assert len(draws) == 27


def test_streams_of_neighbouring_samples_are_uniform_and_uncorrelated():
    first = torch.stack([torch.rand(2, generator=generator(0, 0, index)) for index in range(2000)])
    assert abs(first.mean().item() - 0.5) < 0.02
    assert abs(torch.corrcoef(first.T)[0, 1].item()) < 0.08
    assert abs(torch.corrcoef(torch.stack([first[:-1, 0], first[1:, 0]]))[0, 1].item()) < 0.08


def test_negative_words_are_streams_of_their_own():
    assert stream_seed(0, 0, -1) != stream_seed(0, 0, 1)
