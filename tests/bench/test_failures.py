"""A time limit rings when it is over, and not afterwards."""

import time

import pytest

from attrlab.bench.errors import BudgetExceededError
from attrlab.bench.failures import time_limit


def test_the_time_limit_is_lifted_afterwards() -> None:
    with pytest.raises(BudgetExceededError, match="too slow"), time_limit(0.05, "too slow"):
        time.sleep(5)
    with time_limit(0.01):
        pass
    assert sum(index for index in range(10**6)) > 0  # a forgotten alarm would ring here
