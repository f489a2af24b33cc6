import numpy as np
from probe_features import WIDTHS, make_features, make_store
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from conmim_lightning.probes.logistic import LogisticProbe


def test_logistic_regression_agrees_with_sklearn():
    train = make_store(150, 0)
    probe = LogisticProbe(
        num_classes=3, widths=WIDTHS, features=["last1_mean"], weight_decays=[0.01], max_iterations=500
    )
    assert probe.fit(train, None, "cpu") == {}
    features, labels = make_features(150, 0)
    float16 = features["last1_mean"].half().double().numpy()
    scaler = StandardScaler().fit(float16)
    reference = LogisticRegression(C=1 / (0.01 * 150), max_iter=5000, tol=1e-8).fit(
        scaler.transform(float16), labels.numpy()
    )
    queries, _ = make_features(40, 1)
    expected = reference.predict_proba(scaler.transform(queries["last1_mean"].double().numpy()))
    np.testing.assert_allclose(probe(queries)[""].numpy(), expected, atol=2e-3)
