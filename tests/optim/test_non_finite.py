from conmim_lightning.optim.non_finite import format_losses

NAN = float("nan")


def test_devices_with_a_non_finite_loss_are_named():
    text = format_losses({0: ([1.0, 2.0], [4, 5]), 1: ([1.0, NAN], [6, 7])})
    assert text == "loss [1.0, nan] of samples [6, 7] on rank 1"


def test_all_devices_are_named_if_every_loss_is_finite():
    assert format_losses({0: ([1.0], [4]), 1: ([2.0], [6])}).count("on rank") == 2
