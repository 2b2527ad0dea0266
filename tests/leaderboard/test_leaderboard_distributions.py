import numpy as np
import pytest
from scipy import stats

from attrlab.leaderboard.distributions import chi_squared, noncentral_t, range_quantile


@pytest.mark.parametrize("f", [1, 2, 3, 10, 51, 400])
@pytest.mark.parametrize("x", [0.0, 0.5, 5.0, 60.0, 3000.0])
def test_chi_squared_is_scipy(f, x):
    assert chi_squared(x, f) == pytest.approx(stats.chi2.sf(x, f), rel=1e-9, abs=1e-300)


@pytest.mark.parametrize(("f", "shift"), [(2, 0.0), (2, 3.0), (9, -1.0), (99, 2.8), (499, 0.0)])
def test_noncentral_t_is_scipy(f, shift):
    assert noncentral_t(2.0, f, shift) == pytest.approx(stats.nct.sf(2.0, f, shift), abs=1e-9)


@pytest.mark.parametrize("m", [2, 5, 55])
def test_range_quantile_is_scipy(m):
    assert range_quantile(0.95, m) == pytest.approx(stats.studentized_range.ppf(0.95, m, np.inf), abs=1e-9)
