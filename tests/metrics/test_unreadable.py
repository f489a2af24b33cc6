from conmim_lightning.metrics.unreadable import UnreadableImages


def test_only_images_with_a_reason_count():
    images = UnreadableImages()
    images.count(["", "a.jpg\tcut", "", "b.jpg\tempty"])
    images.count(["c.jpg\tcut"])
    assert images.as_metric() == {"unreadable_images": 3}


def test_nothing_is_reported_if_all_were_readable():
    images = UnreadableImages()
    assert images.as_metric() == {}
    images.count(["", ""])
    assert images.as_metric() == {}
