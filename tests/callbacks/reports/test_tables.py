import numpy as np

from conmim_lightning.callbacks.reports.tables import confused_with


def test_the_most_frequent_error():
    matrix = np.array([[5, 1, 4], [0, 3, 0], [0, 0, 0]])
    assert confused_with(matrix, 0, "abc") == "c\t0.4000"
    assert confused_with(matrix, 1, "abc") == "\t"
    assert confused_with(matrix, 2, "abc") == "\t", "a class without images"
    assert matrix[0, 0] == 5, "the matrix is not changed"
