from matplotlib.figure import Figure

from conmim_lightning.text import displayable, figure_text


def test_what_cannot_be_shown_is_replaced():
    assert displayable("caf\u00e9 1") == "caf\u00e9 1"
    assert displayable("a\tb\nc\udce9") == "a\ufffdb\ufffdc\ufffd"


def test_dollars_are_no_formulas():
    figure = Figure()
    figure.suptitle(figure_text("cash_$10_$20\nsecond\udce9"))
    figure.draw_without_rendering()
    assert figure_text("a\nb") == "a\nb"
