"""One torch thread for every test of a metric, whatever the surroundings say."""

import pytest

from attrlab.bench import train


@pytest.fixture(autouse=True)
def one_thread():
    with train.one_thread():
        yield
