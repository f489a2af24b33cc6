from estimates import ESTIMATE

from conmim_lightning.profiling.estimate_text import format_estimate


def test_hours_steps_and_rates_by_number_of_devices():
    text = format_estimate(ESTIMATE)
    assert "1 devices        1.0 h   288 steps of 128 images; data at 10 images/s" in text
    assert "4 devices        0.2 h   72 steps of 512 images; data at 40 images/s" in text
    assert "data.batch_size=64 fits" in text
    assert "2.00 GiB, for 2 at once" in text


def test_whose_images_are_counted_is_said():
    assert "1,000 images; hours" in format_estimate(ESTIMATE)
    text = format_estimate(ESTIMATE | {"images_known": False})
    assert "1,000 images (ImageNet-1K's; set data.root= or plan.images= for yours); hours" in text


def test_a_batch_that_does_not_fit_is_reported():
    text = format_estimate(ESTIMATE | {"largest_batch": 40})
    assert "data.batch_size=64 does NOT fit: set data.batch_size=40 or less" in text
    assert "not even one image" in format_estimate(ESTIMATE | {"largest_batch": 0})
