from conmim_lightning.optim.non_finite import told_losses

NAN = float("nan")


def test_the_devices_whose_loss_is_not_finite_are_named():
    told = told_losses({0: ([1.0, 2.0], [4, 5]), 1: ([1.0, NAN], [6, 7])})
    assert told == "loss [1.0, nan] of samples [6, 7] on rank 1"


def test_all_are_named_if_every_loss_is_finite():
    assert told_losses({0: ([1.0], [4]), 1: ([2.0], [6])}).count("on rank") == 2
