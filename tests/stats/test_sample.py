"""The interquartile mean, by scipy and by hand."""

import pytest
import scipy.stats

from shaperun.stats.sample import iqm
from tests.helpers.samples import rng


@pytest.mark.parametrize("n", range(1, 14))
def test_iqm_is_the_trimmed_mean(n: int) -> None:
    x = rng().lognormal(size=n)
    assert iqm(x) == pytest.approx(scipy.stats.trim_mean(x, 0.25))


def test_iqm_by_hand() -> None:
    assert iqm([0, 1, 100]) == pytest.approx(101 / 3)  # no trimming below n = 4
    assert iqm([-100, 1, 3, 100]) == 2
    assert iqm([5, 1, 4, 2, 99, -99, 3, 6]) == 3.5
    with pytest.raises(ValueError, match="empty"):
        iqm([])
