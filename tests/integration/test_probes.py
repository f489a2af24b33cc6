import pytest
import torch
from probe_features import ONE_FEATURE, WIDTHS, make_features, make_store

from conmim_lightning.probes.knn import KNNProbe
from conmim_lightning.probes.linear import LinearProbe
from conmim_lightning.probes.logistic import LogisticProbe


@pytest.mark.parametrize(
    "make",
    [
        lambda: LogisticProbe(num_classes=3, widths=WIDTHS, weight_decays=[10.0, 0.01]),
        lambda: LinearProbe(
            num_classes=3, widths=WIDTHS, learning_rates=[1e-6, 0.05], epochs=30, batch_size=64, norm="batch"
        ),
    ],
)
def test_the_best_setting_is_selected_on_held_out_images(make):
    """The informative feature is selected, on held-out images; its accuracy there holds on others."""
    probe = make()
    with pytest.raises(ValueError, match=r"data.held_out_fraction=0.1"):
        probe.fit(make_store(150, 0), None, "cpu")
    values = probe.fit(make_store(150, 0), make_store(90, 2), "cpu")
    selected = probe.feature if isinstance(probe, LogisticProbe) else probe.heads.settings[int(probe.best)]
    assert selected == ("last1_mean" if isinstance(probe, LogisticProbe) else ("last1_mean", 0.05))
    queries, labels = make_features(300, 3)
    accuracy = (probe(queries)[""].argmax(1) == labels).float().mean().item()
    assert values["selection_top1"] > 0.7
    assert abs(accuracy - values["selection_top1"]) < 0.15


@pytest.mark.parametrize(
    "make",
    [
        lambda: KNNProbe(num_classes=3, widths=WIDTHS, num_neighbors=[5]),
        lambda: LogisticProbe(num_classes=3, widths=WIDTHS, features=["pixels"], weight_decays=[0.1]),
        lambda: LinearProbe(num_classes=3, widths=ONE_FEATURE, learning_rates=[0.1], epochs=1),
    ],
)
def test_state_dict_restores_a_fitted_probe(make, tmp_path):
    probe = make()
    probe.fit(make_store(60, 0), None, "cpu")
    torch.save(probe.state_dict(), tmp_path / "state.pt")
    other = make()
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    queries, _ = make_features(10, 1)
    probe.eval(), other.eval()
    for variant in probe.variants:
        assert torch.equal(probe(queries)[variant], other(queries)[variant])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KNNProbe(num_classes=3, widths=WIDTHS, num_neighbors=[0]), "num_neighbors >= 1"),
        (lambda: KNNProbe(num_classes=3, widths=WIDTHS, num_neighbors=[5], temperature=0), "temperature > 0"),
        (
            lambda: KNNProbe(num_classes=3, widths=WIDTHS, num_neighbors=[5], feature="last2_cls"),
            "last2_cls.*task.features",
        ),
        (lambda: LogisticProbe(num_classes=3, widths=WIDTHS, weight_decays=[-1.0]), "weight_decays >= 0"),
        (lambda: LogisticProbe(num_classes=3, widths=WIDTHS, features=["x"]), "task.features"),
        (lambda: LinearProbe(num_classes=3, widths=WIDTHS, learning_rates=[0.1], epochs=0), "epochs and batch_size"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()
