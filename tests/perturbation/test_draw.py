import pytest
import torch

from conmim_lightning.perturbation.draw import COLUMNS, ORDERS, WEAK, PerturbationDraw
from conmim_lightning.rng import generator


def rows(draw, count=4000):
    return torch.stack([draw(generator(0, 0, index)) for index in range(count)])


def column(table, name):
    return table[:, COLUMNS.index(name)]


def test_student_is_weak_and_teacher_strong_by_default():
    drawn = rows(PerturbationDraw(), 50)
    assert (drawn[:, 0] == torch.tensor(WEAK)).all()
    assert (drawn[:, 1] != torch.tensor(WEAK)).any()


@pytest.mark.parametrize(
    ("student", "teacher", "weak"),
    [("weak", "weak", (True, True)), ("strong", "strong", (False, False)), ("strong", "weak", (False, True))],
)
def test_which_view_is_strong_is_free(student, teacher, weak):
    drawn = rows(PerturbationDraw(student=student, teacher=teacher), 50)
    assert tuple(bool((drawn[:, view] == torch.tensor(WEAK)).all()) for view in range(2)) == weak


def test_two_strong_views_are_drawn_separately():
    drawn = rows(PerturbationDraw(student="strong", teacher="strong"), 50)
    assert not torch.equal(drawn[:, 0], drawn[:, 1])


def test_ranges_and_probabilities_of_the_recipe():
    strong = rows(PerturbationDraw())[:, 1]
    jittered = column(strong, "brightness") != 1
    fractions = {
        0.8: jittered,
        0.2: column(strong, "gray") == 1,
        0.1: column(strong, "blur") > 0,
        0.20001: column(strong, "solarize") == 128,
    }
    for wanted, happened in fractions.items():
        assert abs(happened.float().mean().item() - wanted) < 0.025
    for name, low, high in (("brightness", 0.6, 1.4), ("contrast", 0.6, 1.4), ("saturation", 0.8, 1.2)):
        values = column(strong, name)[jittered]
        assert low <= values.min() < low + 0.02
        assert high - 0.02 < values.max() <= high
    hue = column(strong, "hue")[jittered]
    assert -0.1 <= hue.min() < -0.095
    assert 0.095 < hue.max() <= 0.1
    sigma = column(strong, "blur")
    assert 0.1 <= sigma[sigma > 0].min() < 0.2
    assert 1.9 < sigma.max() <= 2.0


def test_every_order_of_the_jitter_occurs():
    strong = rows(PerturbationDraw(jitter_probability=1.0), 2000)[:, 1]
    assert len(ORDERS) == len(set(ORDERS)) == 24
    assert column(strong, "order").unique().tolist() == list(range(24))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"student": "medium"}, "medium"),
        ({"gray_probability": 1.2}, "gray_probability.*1.2"),
        ({"hue": 0.7}, "hue must lie in .0, 0.5"),
        ({"brightness": -1}, "brightness"),
        ({"blur_sigma": (2.0, 0.1)}, "blur_sigma"),
        ({"solarize_threshold": 300}, "300"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        PerturbationDraw(**arguments)


def test_channels_may_have_a_jitter_of_their_own():
    draw = PerturbationDraw(per_channel=6, brightness=0.3, contrast=0.5, jitter_probability=1.0)
    rows = draw(generator(0, 0, 0))
    assert rows.shape == (2, len(COLUMNS) + 12)
    assert rows[0].tolist() == [*WEAK, *[1.0] * 12], "the weak view"
    brightness, contrast = rows[1, len(COLUMNS) :].view(2, 6)
    assert len(set(brightness.tolist())) == 6
    assert ((brightness >= 0.7) & (brightness <= 1.3) & (contrast >= 0.5) & (contrast <= 1.5)).all()
    common = PerturbationDraw(brightness=0.3, contrast=0.5, jitter_probability=1.0)(generator(0, 0, 0))
    assert torch.equal(rows[:, : len(COLUMNS)], common), "what is common does not change"
    unchanged = PerturbationDraw(per_channel=2, jitter_probability=0.0)(generator(0, 0, 0))
    assert unchanged[1, len(COLUMNS) :].tolist() == [1.0] * 4
    with pytest.raises(ValueError, match="got -1"):
        PerturbationDraw(per_channel=-1)
