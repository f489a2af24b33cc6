import csv
import resource
import signal

import pytest

from conmim_lightning.loggers.csv import RunCSVLogger


def log(folder, steps, *, first_step=0, finish=True, **extra):
    logger = RunCSVLogger(folder, name="metrics", version="", first_step=first_step)
    for step in steps:
        logger.log_metrics({"loss": step / 8} | extra, step)
    if finish:
        logger.finalize("success")
    return logger


def rows(folder):
    with (folder / "metrics" / "metrics.csv").open() as file:
        return [{key: cell for key, cell in row.items() if cell} for row in csv.DictReader(file)]


def test_a_resumed_run_continues_the_rows(tmp_path):
    log(tmp_path, range(6))
    log(tmp_path, range(4, 9), first_step=4)
    assert [int(row["step"]) for row in rows(tmp_path)] == list(range(9)), "steps 4 and 5 are logged again"
    assert all(float(row["loss"]) == int(row["step"]) / 8 for row in rows(tmp_path))


def test_new_columns_keep_the_earlier_rows(tmp_path):
    log(tmp_path, range(3))
    log(tmp_path, range(3, 5), first_step=3, accuracy=1.0)
    assert [row.get("accuracy") for row in rows(tmp_path)] == [None, None, None, "1.0", "1.0"]
    assert [int(row["step"]) for row in rows(tmp_path)] == list(range(5))


def test_nothing_new_leaves_the_earlier_rows(tmp_path):
    log(tmp_path, range(3))
    _ = log(tmp_path, [], first_step=3).experiment
    assert len(rows(tmp_path)) == 3


def test_a_fresh_run_starts_a_new_file(tmp_path):
    log(tmp_path, range(6))
    log(tmp_path, range(2))
    assert [int(row["step"]) for row in rows(tmp_path)] == [0, 1]


def test_an_incomplete_last_line_is_dropped(tmp_path):
    log(tmp_path, range(10, 13))
    path = tmp_path / "metrics" / "metrics.csv"
    path.write_text(path.read_text()[:-2])  # step 12 without its end reads as step 1
    log(tmp_path, [12], first_step=12)
    assert [int(row["step"]) for row in rows(tmp_path)] == [10, 11, 12]


def test_rows_are_appended_and_a_kill_loses_only_what_was_not_written(tmp_path):
    logger = log(tmp_path, range(3), finish=False)
    logger.save()
    logger.log_metrics({"loss": 1.0}, 3)
    logger.save()
    logger.log_metrics({"loss": 1.0}, 4)
    assert [int(row["step"]) for row in rows(tmp_path)] == [0, 1, 2, 3]


def test_a_full_disk_names_the_file(tmp_path):
    handler, before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    log(tmp_path, range(3))
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: '.*metrics\.csv'"):
            log(tmp_path, range(3, 99), first_step=3)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert len(rows(tmp_path)) == 3


def test_a_repeated_row_is_dropped(tmp_path):
    log(tmp_path, [0, 1, 1, 2])
    assert [int(row["step"]) for row in rows(tmp_path)] == [0, 1, 2]
