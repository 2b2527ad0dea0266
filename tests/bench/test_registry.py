"""Names and parameters of methods and metrics."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrlab.bench.errors import UserError
from attrlab.bench.facts import MethodFacts
from attrlab.bench.registry import METHODS, METRICS


def test_parameters_are_typed_sorted_and_defaults_left_out():
    found = METHODS.find("lime:samples=500")
    assert (found.id, dict(found.params), found.name) == ("lime", {"samples": 500}, "lime:samples=500")
    assert METHODS.find(f"lime:samples={METHODS.find('lime').build().samples}").name == "lime"
    assert METRICS.find("tau_loo:absolute=true").name == "tau_loo:absolute=true"
    assert METHODS.find("co_perturbation:steps=7,draws=3").name == "co_perturbation:draws=3,steps=7"


@given(st.integers(2, 10**6), st.floats(0.01, 1e6))
def test_a_name_finds_its_own_component(samples, width):
    found = METHODS.find(f"lime:samples={samples},kernel_width={width}")
    assert METHODS.find(found.name) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lyme", "Did you mean 'lime'"),
        ("", "is not of the form"),
        ("lime:samples=1,width", "'width' is not of the form param=value"),
        ("lime:samples=1.5", "is not a whole number"),
        ("lime:kernel_width=wide", "is not a number"),
        ("lime:samples", "is not of the form lime:param=value"),
        ("lime:", "is not of the form lime:param=value"),
    ],
)
def test_refused_names(text, message):
    with pytest.raises(UserError, match=message):
        METHODS.find(text)


def test_refused_truth_value():
    with pytest.raises(UserError, match="allowed: true, false"):
        METRICS.find("tau_loo:absolute=yes")


def test_facts_of_a_plug_in(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text('class Mine:\n    """One line.\n\n    More."""\n    facts = {"signed": False, "version": "2"}\n')
    found = METHODS.find(f"{path}:Mine")
    expected = MethodFacts(where=f"{path}:Mine", summary="One line.", signed=False, version="2")
    assert found.facts == expected
    path.write_text('class Mine:\n    facts = {"singed": False}\n')
    with pytest.raises(UserError, match="Did you mean 'signed'"):
        METHODS.find(f"{path}:Mine")


def test_an_edited_file_is_another_component(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("class Mine:\n    value = 1\n")
    first = METHODS.find(f"{path}:Mine")
    assert first.build().value == 1
    path.write_text("class Mine:\n    value = 2\n")
    assert first.build().value == 1
    second = METHODS.find(f"{path}:Mine")
    assert second.build().value == 2
    assert second.key() != first.key()
    assert METHODS.find(f"{path}:Mine") == second
