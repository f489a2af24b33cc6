import numpy as np

from conmim_lightning.callbacks.reports.confusion_figure import confusion_figure


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_cells_are_per_cent_of_a_class():
    figure = confusion_figure(np.array([[3, 1, 0], [0, 200, 1], [0, 0, 0]]), ["a", "b", "c"])
    axes, bar = figure.axes
    assert texts(figure) == ["75", "25", "100", "<1"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a (4 images)", "b (201 images)", "c (absent)"]
    assert axes.get_title() == "203 of 205 correct, 99.0 %"
    assert "%" in bar.get_ylabel()
    assert len(axes.patches) == 1, "the absent class is hatched"


def test_small_errors_are_visible():
    image = confusion_figure(np.array([[97, 3], [0, 100]]), ["a", "b"]).axes[0].images[0]
    none, few = (image.norm(value) for value in (0, 3))
    assert few - none > 0.15


def test_many_classes_have_neither_numbers_nor_names():
    figure = confusion_figure(np.eye(50, dtype=int), [str(number) for number in range(50)])
    assert not texts(figure)
    assert "49 (1 images)" not in [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert confusion_figure(np.zeros((2, 2), int), ["a", "b"]).axes[0].get_title() == "0 of 0 correct"
