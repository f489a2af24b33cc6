import pytest

from conmim_lightning.data.checks import check_at_least


def test_names_the_number_and_the_bound():
    check_at_least(1, first=1, second=None)
    with pytest.raises(ValueError, match="second must be at least 1, got 0"):
        check_at_least(1, first=3, second=0)
