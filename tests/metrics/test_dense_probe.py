import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from conmim_lightning.metrics.dense_probe import DenseProbe, PatchTargets, logistic_probe, patch_targets


def test_targets_by_hand():
    class_map = torch.full((1, 8, 8), -1, dtype=torch.int16)
    class_map[0, :4, 4:] = 1  # a patch of class 1 alone
    class_map[0, 4:, :4] = 0
    class_map[0, 4:, 0] = -1  # three quarters class 0
    class_map[0, 7, 7] = 0
    targets = patch_targets(class_map, (2, 2), 3)
    assert targets.inside[0].tolist() == [0, 1, 0.75, 1 / 16]
    assert targets.second[0].tolist() == [0, 0, 0.25, 1 / 16]
    assert targets.label[0].tolist() == [-1, 1, 0, -1]


def test_grid_that_does_not_divide():
    with pytest.raises(ValueError, match="9, 8"):
        patch_targets(torch.zeros(1, 9, 8), (2, 2), 1)


def test_logistic_probe_is_logistic_regression():
    random = np.random.default_rng(0)
    features = random.normal(size=(400, 6))
    target = features @ random.normal(size=6) + random.normal(size=400) > 0.5
    ours = logistic_probe(torch.tensor(features), torch.tensor(target), penalty=0.01)
    theirs = LogisticRegression(C=1 / (0.01 * 400), tol=1e-10, max_iter=1000).fit(features, target)
    np.testing.assert_allclose(ours[:-1].numpy(), theirs.coef_[0], rtol=1e-4)
    assert ours[-1].item() == pytest.approx(theirs.intercept_[0], rel=1e-4)


def synthetic(images, seed):
    random = torch.Generator().manual_seed(seed)
    label = torch.randint(0, 3, (images, 9), generator=random) - 1
    inside = torch.where(label >= 0, 1.0, 0.0)
    second = torch.where(torch.rand(images, 9, generator=random) < 0.3, 0.4, 0.0)
    tokens = torch.randn(images, 9, 4, generator=random)
    tokens[..., 0] += inside
    tokens[..., 1] += 2.0 * (second > 0)
    tokens[..., 2] += 1.0 * (label == 0)
    return tokens, PatchTargets(inside, second, label)


def test_auroc_is_that_of_a_fitted_probe():
    fit, test = synthetic(200, 0), synthetic(100, 1)
    metric = DenseProbe(num_classes=2)
    metric.update(*fit, reference=True)
    metric.update(*test, reference=False)
    values = metric.compute()
    model = LogisticRegression(C=1.0).fit(fit[0].flatten(0, 1), fit[1].second.flatten() > 0)
    wanted = roc_auc_score(test[1].second.flatten() > 0, model.decision_function(test[0].flatten(0, 1)))
    assert values["border"].item() == pytest.approx(wanted, abs=2e-3)
    assert 0.7 < values["object"] < 0.9
    assert 0.7 < values["class"] < 0.9


def test_the_standard_error_is_the_spread_over_samples():
    values = []
    for seed in range(40):
        metric = DenseProbe(num_classes=2)
        metric.update(*synthetic(200, 0), reference=True)
        metric.update(*synthetic(100, 1 + seed), reference=False)
        values.append(metric.compute())
    for name in ("object", "border", "class"):
        spread = torch.stack([value[name] for value in values]).std().item()
        stated = torch.stack([value[f"{name}_error"] for value in values]).mean().item()
        assert stated == pytest.approx(spread, rel=0.35), name


def test_patches_with_a_slight_border_do_not_count():
    tokens, targets = synthetic(200, 0)
    results = []
    for offset in (torch.zeros_like(tokens[..., 0]), 100 * torch.ones_like(tokens[..., 0])):
        metric = DenseProbe(num_classes=2)
        marked = targets._replace(second=torch.where(targets.label == 1, 0.1, targets.second))
        for role in (True, False):
            metric.update(tokens + torch.where(targets.label == 1, offset, 0)[..., None], marked, reference=role)
        results.append(metric.compute()["border"].item())
    assert results[0] == pytest.approx(results[1], abs=0.01)


def test_noise_is_at_chance():
    metric = DenseProbe(num_classes=2)
    for role, seed in ((True, 0), (False, 1)):
        tokens, targets = synthetic(300, seed)
        metric.update(torch.randn(tokens.shape, generator=torch.Generator().manual_seed(seed)), targets, reference=role)
    values = metric.compute()
    assert all(abs(values[name].item() - 0.5) < 0.05 for name in ("object", "border", "class"))


def test_order_of_updates_does_not_matter():
    tokens, targets = synthetic(50, 0)
    results = []
    for order in (torch.arange(50), torch.arange(50).flip(0)):
        metric = DenseProbe(num_classes=2)
        for role in (True, False):
            metric.update(tokens[order], PatchTargets(*(t[order] for t in targets)), reference=role)
        results.append(metric.compute())
    for name in ("object", "border", "class"):
        assert results[0][name] == pytest.approx(results[1][name].item(), abs=1e-6)


def test_one_sided_targets_are_nan_not_an_error():
    tokens, targets = synthetic(10, 0)
    metric = DenseProbe(num_classes=2)
    for role in (True, False):
        metric.update(tokens, targets._replace(second=torch.zeros_like(targets.second)), reference=role)
    assert metric.compute()["border"].isnan()
