from types import SimpleNamespace

import numpy as np
import pytest

from conmim_lightning.loggers.media import Picture, log_pictures, log_tsv, media_loggers


class Recorder:
    def __init__(self, log_media=True):
        self.log_media = log_media
        self.pictures, self.rows = [], []

    def log_pictures(self, name, pictures, step):
        self.pictures.append((name, len(pictures), step))
        self.shown = pictures

    def log_rows(self, name, columns, rows, step):
        self.rows.append((name, columns, rows, step))


def trainer(*loggers, first=True, step=8):
    return SimpleNamespace(loggers=[object(), *loggers], is_global_zero=first, global_step=step)


PICTURE = Picture(np.zeros((2, 2, 3), np.uint8))


def test_only_loggers_that_accept_pictures_get_them():
    on, off = Recorder(), Recorder(log_media=False)
    assert media_loggers(trainer(on, off)) == [on]
    log_pictures(trainer(on, off), "a", [PICTURE])
    assert (on.pictures, off.pictures) == ([("a", 1, 7)], []), "with the last step, as Lightning counts"


@pytest.mark.parametrize(("first", "pictures"), [(False, [PICTURE]), (True, [])])
def test_nothing_to_log(first, pictures):
    logger = Recorder()
    log_pictures(trainer(logger, first=first), "a", pictures)
    assert not logger.pictures


def test_names_that_look_like_numbers_stay_and_others_can_be_shown():
    logger = Recorder()
    log_tsv(trainer(logger), "t", "class\timages\n001\t1\n1_0\t2\n")
    assert logger.rows[0][2] == [("001", 1), ("1_0", 2)]
    log_pictures(trainer(logger), "p", [PICTURE._replace(caption="caf\udce9.jpg", classes=["\udce9"])])
    assert logger.shown[0].caption == "caf\ufffd.jpg"
    assert logger.shown[0].classes == ["\ufffd"]


def test_columns_of_a_table_have_one_type():
    logger = Recorder()
    text = "class\timages\ttop1\tconfused_with\tfraction\n7\t3\t0.5\tcat\t0.25\ncat\t0\tnan\t\t\n"
    log_tsv(trainer(logger, step=0), "t", text)
    name, columns, rows, step = logger.rows[0]
    assert (name, columns, step) == ("t", ["class", "images", "top1", "confused_with", "fraction"], 0)
    assert rows[0] == ("7", 3, 0.5, "cat", 0.25)
    assert (*rows[1][:2], *rows[1][3:]) == ("cat", 0, "", None)
    assert np.isnan(rows[1][2])
