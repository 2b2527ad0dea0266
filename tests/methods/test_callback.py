"""The adapter that turns a callback into a yield."""

import gc
import warnings

import numpy as np
import pytest
import torch
from greenlet import GreenletExit, greenlet
from toygames import Oracle, game

from attrlab.bench.types import drive
from attrlab.methods._callback import ask_through
from attrlab.methods.shapley import Shap, ShapleySampling

KEEP = np.array([[True, False], [True, True]])


def start(function, seed=0):
    return ask_through(function, game(2), np.random.default_rng(seed))


def test_answers_reach_the_callback_and_the_result_comes_back():
    def function(values):
        first = values(KEEP)
        return first, values(~KEEP)

    first, second = drive(start(function), Oracle(lambda keep: keep @ [1.0, 10.0]))
    assert first.tolist() == [1, 11]
    assert second.tolist() == [10, 0]


def test_a_function_that_asks_nothing_just_returns():
    assert drive(start(lambda values: 7), Oracle(lambda keep: keep.sum(axis=1))) == 7


def test_an_exception_of_the_function_reaches_the_driver():
    def function(values):
        values(KEEP)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        drive(start(function), Oracle(lambda keep: keep.sum(axis=1)))


def test_an_exception_thrown_in_is_raised_by_the_callback():
    def function(values):
        try:
            values(KEEP)
        except MemoryError as error:
            return f"caught {error}, then asked {values(KEEP).sum()}"

    asker = start(function)
    next(asker)
    ask = asker.throw(MemoryError("too much"))
    assert ask.keep.tolist() == KEEP.tolist()
    with pytest.raises(StopIteration) as stop:
        asker.send(np.ones((2, 2)))
    assert stop.value.value == "caught too much, then asked 2.0"


def test_an_exception_nobody_catches_passes_through():
    asker = start(lambda values: values(KEEP))
    next(asker)
    with pytest.raises(TimeoutError, match="late"):
        asker.throw(TimeoutError("late"))


@pytest.mark.parametrize("drop", [lambda asker: asker.close(), lambda asker: None], ids=["closed", "forgotten"])
def test_an_abandoned_asker_unwinds_the_function_quietly(drop):
    ended = []

    def function(values):
        try:
            values(KEEP)
        except BaseException as error:
            ended.append(type(error))
            raise
        finally:
            ended.append("cleaned up")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asker = start(function)
        next(asker)
        drop(asker)
        del asker
        gc.collect()
    assert ended == [GreenletExit, "cleaned up"]


@pytest.mark.parametrize(("method", "steps"), [(ShapleySampling(), 1), (Shap(), 1), (Shap(), 3)])
def test_closing_a_library_early_leaves_nothing_behind(method, steps):
    def living():
        gc.collect()
        return sum(isinstance(thing, greenlet) for thing in gc.get_objects())

    oracle = Oracle(lambda keep: keep.sum(axis=1) ** 2.0)
    drive(method.ask(game(4), np.random.default_rng(0)), oracle)
    before = living()
    asker = method.ask(game(4), np.random.default_rng(0))
    ask = next(asker)
    for _ in range(steps - 1):
        ask = asker.send(oracle(ask))
    asker.close()
    del asker
    assert living() == before
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("gradients", [True, False])
def test_the_caller_sees_its_own_global_state_at_every_step(gradients):
    def function(values):
        for _ in range(2):
            np.random.random(3)
            torch.rand(3)
            with torch.no_grad():
                values(KEEP)

    with torch.set_grad_enabled(gradients):
        np.random.seed(0)
        torch.manual_seed(0)
        numpy_before, torch_before = np.random.get_state(), torch.get_rng_state()
        for _ in _steps(start(function)):
            assert torch.is_grad_enabled() is gradients
            assert all(np.array_equal(*pair) for pair in zip(numpy_before, np.random.get_state(), strict=True))
            assert torch.equal(torch_before, torch.get_rng_state())


def _steps(asker):
    """Yields after every step, the last one included."""
    logits = None
    while True:
        try:
            ask = asker.send(logits)
        except StopIteration:
            yield
            return
        yield
        logits = np.zeros((len(ask.keep), 2))


def test_the_function_draws_from_its_own_stream_whatever_happens_outside():
    def function(values):
        drawn = []
        for _ in range(3):
            drawn += [np.random.random(), torch.rand(1).item()]
            values(KEEP)
        return drawn

    def noisy(ask):
        np.random.seed(len(ask.keep))
        torch.rand(5)
        return np.zeros((len(ask.keep), 2))

    quiet = lambda ask: np.zeros((len(ask.keep), 2))  # noqa: E731
    assert drive(start(function), quiet) == drive(start(function), noisy)
    assert drive(start(function), quiet) != drive(start(function, seed=1), quiet)
    drawn = drive(start(function), quiet)
    assert len(set(drawn)) == len(drawn)


def test_an_asker_may_be_resumed_from_another_greenlet():
    asker = start(lambda values: values(KEEP) + values(KEEP))
    next(asker)
    greenlet(lambda: asker.send(np.ones((2, 2)))).switch()
    with pytest.raises(StopIteration) as stop:
        asker.send(np.full((2, 2), 2.0))
    assert stop.value.value.tolist() == [3, 3]
