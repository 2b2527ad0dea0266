"""Cases and models whose answers are known, for tests of metrics that erase words."""

import hashlib

import numpy as np

from attrlab.bench.types import Case, drive


def make(scores, *, tie_orders=None, signed=True, **fields):
    """Returns a case that explains class 1 under ``delete``."""
    scores = np.array(scores, dtype=float)
    rng = np.random.default_rng(5)
    orders = np.array([rng.permutation(len(scores)) for _ in range(5)]) if tie_orders is None else tie_orders
    given = {"target": 1, "label": 1, "operator": "delete"} | fields
    return Case(scores=scores, signed=signed, tie_orders=np.asarray(orders), **given)


def answer_with(probability, operator="delete"):
    """Returns a model of two classes whose probability of class 1 is given as a function of the kept units."""

    def answer(ask):
        assert ask.operator == operator
        p = np.array([probability(row) for row in ask.keep])
        return np.stack([np.log1p(-p), np.log(p)], axis=1)

    return answer


def additive(base, effects):
    """Returns a model whose probability of class 1 is the base and the effects of the kept units."""
    return answer_with(lambda keep: base + float(np.dot(keep, effects)))


def random_model(seed=0, classes=3):
    """Returns a model that answers at random, but the same set the same way."""

    def answer(ask):
        digests = [hashlib.blake2b(bytes([seed]) + keep.tobytes(), digest_size=4).digest() for keep in ask.keep]
        seeds = [int.from_bytes(digest, "big") for digest in digests]
        return np.array([np.random.default_rng(one).normal(size=classes) * 2 for one in seeds])

    return answer


def value(metric, case, answer):
    """Returns the value of a score, which has a reason where it is NaN and only there."""
    score = drive(metric.score(case), answer)
    assert (score.reason is None) != np.isnan(score.value)
    return score.value


def never(ask):
    """A model that must not be asked."""
    raise AssertionError(ask)
