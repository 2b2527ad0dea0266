"""Metrics that train models, against trainers whose answers are known."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrlab.bench.seeds import generator
from attrlab.bench.trials import Field, Trained, Training, conduct
from attrlab.bench.types import Case
from attrlab.metrics.roar import NOTHING_LOST, RecursiveRoar, Roar, RoarLeak, area, at_random, macro_f1, racu
from attrlab.metrics.simulatability import Simulatability

SHARES = (10, 20, 50, 90)


def case(name, scores, label=0, target=None):
    rng = generator("ties", name)
    orders = np.array([rng.permutation(len(scores)) for _ in range(5)])
    return Case(
        scores=np.asarray(scores, dtype=np.float64),
        signed=True,
        target=label if target is None else target,
        label=label,
        tie_orders=orders,
        example=name,
    )


def field(make, n_train=40, n_test=30, n_units=10):
    """Texts of alternating label with the explanation ``make(index, label, n_units)``."""
    parts = [
        tuple(case(f"{part}-{i}", make(i, i % 2, n_units), i % 2) for i in range(count))
        for part, count in (("train", n_train), ("test", n_test))
    ]
    return Field(train=parts[0], test=parts[1])


def knows(place, texts):
    """A trainer: a text is classified correctly if and only if its word ``place(index)`` stays; else as class 0."""

    def train(training: Training) -> Trained:
        labels = np.array([one.label for one in texts.test])
        seen = np.array([stay[place(i)] for i, stay in enumerate(training.stays.test)])
        explained = [one.scores for one in texts.train], [one.scores for one in texts.test]
        train, test = explained if training.explain else ((), ())
        return Trained(np.where(seen, labels, 0), 1.0, tuple(train), tuple(test))

    return train


def mean(findings):
    return float(np.mean([score.value for score in findings.scores]))


# --- the area and RACU


def test_racu_of_the_random_curve_is_0_and_of_no_words_is_1(parity):
    rng = np.random.default_rng(0)
    for _ in range(50):
        random, none = rng.uniform(0.6, 1.0, 4), 0.5
        parity("Q15", "roar", "method = random: 0", abs(racu(SHARES, random, random, none)), 1e-12)
        everywhere = np.full(4, none)
        parity("Q15", "roar", "method = y_100: 1", abs(racu(SHARES, everywhere, random, none) - 1), 1e-12)


def test_areas_are_those_of_numpy_and_by_hand():
    rng = np.random.default_rng(1)
    heights = rng.normal(size=(4, 3))
    expected = np.trapezoid(heights, np.array(SHARES) / 100, axis=0)
    assert np.allclose(area(SHARES, heights), expected, atol=1e-15)
    # 0.1 * (0 + 0.2) / 2 + 0.3 * (0.2 + 0.4) / 2 + 0.4 * (0.4 + 0) / 2
    assert area(SHARES, np.array([0.0, 0.2, 0.4, 0.0])) == pytest.approx(0.18)


def test_racu_is_clipped_and_undefined_without_a_gap():
    random = np.full(4, 0.9)
    assert racu(SHARES, np.zeros(4), random, 0.8) == 1.0
    assert racu(SHARES, np.ones(4), random, 0.89) == -1.0
    assert np.isnan(racu(SHARES, np.zeros(4), random, 0.9))
    assert np.isnan(racu(SHARES, np.zeros(4), random, 0.95))


def test_macro_f1_is_scikit_learns():
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(2)
    for _ in range(20):
        labels, predicted = rng.integers(0, 3, 30), rng.integers(0, 3, 30)
        assert macro_f1(predicted, labels) == pytest.approx(f1_score(labels, predicted, average="macro"), abs=1e-12)


# --- ROAR against a model that reads one word


def test_an_explanation_that_names_the_word_is_worth_1_and_one_that_names_it_last_is_below_0():
    place = lambda i: i % 10  # noqa: E731
    first = field(lambda i, _label, n: np.eye(n)[i % n])
    found = conduct(Roar(seeds=2).study(first), knows(place, first))
    assert mean(found) == pytest.approx(1.0, abs=1e-12)  # the word is gone at 10 % already: as bad as nothing left
    assert found.details["racu"] == pytest.approx([1.0, 1.0])
    last = field(lambda i, _label, n: -np.eye(n)[i % n])
    worst = conduct(Roar(seeds=2).study(last), knows(place, last))
    assert mean(worst) < -0.2
    assert all(accuracy == 1.0 for row in worst.details["accuracy"]["method"] for accuracy in row)


def test_the_mean_of_the_scores_is_racu_of_the_mean_curves():
    rng = np.random.default_rng(3)
    texts = field(lambda _i, _label, n: rng.normal(size=n))
    found = conduct(Roar(seeds=3).study(texts), knows(lambda i: i % 10, texts))
    curves = {name: np.mean(rows, axis=1) for name, rows in found.details["accuracy"].items()}
    expected = racu(SHARES, curves["method"], curves["random"], curves["none"][0])
    assert abs(expected) < 1  # else clipping would hide a difference
    assert mean(found) == pytest.approx(expected, abs=1e-12)
    assert curves["whole"][0] == 1.0
    assert curves["none"][0] == 0.5
    assert found.details["seconds"] == 3 * (4 + 4 + 2)


def test_every_training_removes_as_many_words_and_random_ones_under_the_same_seeds():
    seen: list[Training] = []
    texts = field(lambda i, _label, n: np.random.default_rng(i).normal(size=n), n_units=7)
    knowing = knows(lambda _i: 0, texts)
    conduct(Roar(seeds=2).study(texts), lambda training: seen.append(training) or knowing(training))
    ends, random, own = seen[:4], seen[4:12], seen[12:]
    assert [training.seed for training in random] == [training.seed for training in own] == [1, 2] * 4
    for ours, theirs, share in zip(own, random, [10, 10, 20, 20, 50, 50, 90, 90], strict=True):
        k = int(np.ceil(share / 100 * 7 - 1e-9))
        for part in ("train", "test"):
            assert {int((~stay).sum()) for stay in getattr(ours.stays, part)} == {k}
            assert {int((~stay).sum()) for stay in getattr(theirs.stays, part)} == {k}
    assert [all(stay.all() for stay in one.stays.test) for one in ends] == [True, True, False, False]
    assert [any(stay.any() for stay in one.stays.test) for one in ends] == [True, True, False, False]
    assert random[0].stays.test[0].tolist() != random[1].stays.test[0].tolist() or (
        random[0].stays.test[1].tolist() != random[1].stays.test[1].tolist()
    )


@given(st.integers(1, 12), st.integers(0, 50))
def test_random_removals_grow_and_are_the_same_for_all_methods(n_units, seed):
    one, other = case("text", np.arange(n_units)), case("text", -np.arange(n_units))
    before = np.ones(n_units, dtype=bool)
    for share in SHARES:
        stays = at_random(one, share, seed)
        assert np.array_equal(stays, at_random(other, share, seed))
        assert not (stays & ~before).any()
        before = stays


def test_nothing_is_said_where_random_removal_costs_as_much_as_removing_all():
    texts = field(lambda _i, _label, n: np.arange(n))
    blind = lambda training: Trained(np.zeros(len(texts.test), dtype=np.int64))  # noqa: E731
    scores = conduct(Roar(seeds=1).study(texts), blind).scores
    assert {score.reason for score in scores} == {NOTHING_LOST}
    assert all(np.isnan(score.value) for score in scores)


def test_a_monotone_transformation_and_equal_scores_change_nothing_but_ties():
    asked: list[list[list[bool]]] = []

    def train(training: Training) -> Trained:
        asked[-1].append([stay.tolist() for stay in training.stays.test])
        return Trained(np.zeros(30, dtype=np.int64))

    for change in (lambda x: x, lambda x: 7 * x, np.exp):
        asked.append([])
        made = field(lambda i, _label, n, change=change: change(np.random.default_rng(i).normal(size=n)))
        conduct(Roar(seeds=1).study(made), train)
    assert asked[0] == asked[1] == asked[2]
    asked.append([])
    flat = field(lambda _i, _l, n: np.zeros(n))
    conduct(Roar(seeds=1).study(flat), train)
    firsts = {stay.index(False) for stay in asked[-1][-4]}
    assert len(firsts) > 3  # ties are no left-to-right explanation


# --- recursive ROAR


def test_recursion_finds_the_redundant_word_and_removed_words_stay_removed():
    """Words 0 and 1 say the same. The original model reads 0 only; a model trained without it reads 1."""

    def scores(stay):
        alive = [place for place in (0, 1) if stay[place]]
        return np.eye(10)[alive[0]] if alive else np.zeros(10)

    texts = field(lambda _i, _label, n: np.eye(n)[0] + 0.01 * np.arange(n) * (np.arange(n) > 1))
    asked: list[Training] = []

    def train(training: Training) -> Trained:
        asked.append(training)
        labels = np.array([one.label for one in texts.test])
        seen = np.array([stay[0] or stay[1] for stay in training.stays.test])
        explained = [tuple(map(scores, part)) for part in training.stays] if training.explain else [(), ()]
        return Trained(np.where(seen, labels, 0), 0.0, *explained)

    plain = conduct(Roar(seeds=2).study(texts), train)
    asked.clear()
    recursive = conduct(RecursiveRoar(seeds=2).study(texts), train)
    assert np.mean(plain.details["accuracy"]["method"], axis=1).tolist() == [1.0, 1.0, 1.0, 1.0]  # word 1 comes last
    assert np.mean(recursive.details["accuracy"]["method"], axis=1).tolist() == [1.0, 0.5, 0.5, 0.5]
    assert mean(recursive) > mean(plain) + 0.5
    assert [training.explain for training in asked] == [False] * 12 + [True] * 6 + [False] * 2
    by_seed = [training for training in asked[12:] if training.seed == 2]
    for before, after in pairwise(by_seed):
        for gone, stay in zip(before.stays.train, after.stays.train, strict=True):
            assert not (stay & ~gone).any()


def test_recursion_shares_its_first_share_and_its_controls_with_roar():
    texts = field(lambda i, _label, n: np.random.default_rng(i).normal(size=n))
    keys: list[list[str]] = []
    for metric in (Roar(seeds=2), RecursiveRoar(seeds=2)):
        keys.append([])

        def train(training: Training) -> Trained:
            keys[-1].append(str(training.key()))
            return knows(lambda _i: 0, texts)(training)

        conduct(metric.study(texts), train)
    assert len(keys[0]) == len(keys[1]) == 20
    assert keys[0][:14] == keys[1][:14]  # ends, random, and the method's own at 10 %


# --- the leak control


def reads_patterns(texts, share):
    """A trainer that knows nothing but the pattern: nearest mean of the two classes' removal masks."""

    def train(training: Training) -> Trained:
        assert training.shows == "pattern"
        labels = np.array([one.label for one in texts.train])
        masks = np.array(training.stays.train, dtype=np.float64)
        means = np.array([masks[labels == label].mean(0) for label in (0, 1)])
        asked = np.array(training.stays.test, dtype=np.float64)
        return Trained(((asked[:, None] - means[None]) ** 2).sum(2).argmin(1))

    return train


def test_an_explanation_that_tells_the_label_by_its_order_is_caught():
    cheat = field(lambda _i, label, n: np.arange(n) * (1 if label else -1), 200, 100)
    caught = conduct(RoarLeak(seeds=1).study(cheat), reads_patterns(cheat, 10))
    assert mean(caught) == pytest.approx(0.5)
    assert caught.details["majority"] == 0.5
    honest = field(lambda i, _label, n: np.random.default_rng(i).normal(size=n), 200, 100)
    assert abs(mean(conduct(RoarLeak(seeds=1).study(honest), reads_patterns(honest, 10)))) < 0.15


def test_a_guess_of_the_most_frequent_label_is_no_leak():
    texts = Field(
        train=tuple(case(f"a{i}", np.arange(4), label=int(i > 3)) for i in range(20)),
        test=tuple(case(f"b{i}", np.arange(4), label=int(i > 1)) for i in range(10)),
    )
    found = conduct(RoarLeak(seeds=2).study(texts), lambda _one: Trained(np.ones(10, dtype=np.int64)))
    assert [score.value for score in found.scores] == [0.0] * 10
    assert found.details["majority"] == 0.8


# --- simulatability


def test_agreement_with_explanations_minus_agreement_without():
    texts = Field(
        train=tuple(case(f"a{i}", np.arange(5), target=i % 2) for i in range(20)),
        test=tuple(case(f"b{i}", np.arange(5), target=i % 2) for i in range(10)),
    )
    asked: list[Training] = []

    def train(training: Training) -> Trained:
        asked.append(training)
        teacher = np.arange(10) % 2
        return Trained(teacher if training.marks is not None and training.seed == 1 else np.zeros(10, dtype=np.int64))

    found = conduct(Simulatability(seeds=2).study(texts), train)
    assert [score.value for score in found.scores] == [0.0, 0.5] * 5
    assert found.details["agreement"] == {"method": [1.0, 0.5], "nothing": [0.5, 0.5]}
    assert [(one.seed, one.student, one.marks is None) for one in asked] == [
        (1, True, True),
        (2, True, True),
        (1, True, False),
        (2, True, False),
    ]
    marked = asked[2].marks
    assert marked is not None
    assert all(mark.tolist() == [False] * 4 + [True] for mark in marked)  # the best fifth of five words
    assert all(stay.all() for one in asked for part in one.stays for stay in part)  # every word is shown


def test_shuffled_explanations_point_out_as_many_words_elsewhere():
    texts = field(lambda _i, _label, n: np.arange(n))
    marks: list[np.ndarray] = []

    def train(training: Training) -> Trained:
        if training.marks is not None:
            marks.append(np.array(training.marks))
        return Trained(np.zeros(30, dtype=np.int64))

    for shuffled in (False, True):
        conduct(Simulatability(seeds=1, shuffled=shuffled).study(texts), train)
    plain, dealt = marks
    assert (plain.sum(1) == dealt.sum(1)).all()
    assert (plain.argmax(1) == 8).all()
    assert len(set(dealt.argmax(1).tolist())) > 3


# --- parameters


@pytest.mark.parametrize(
    ("metric", "parameters", "message"),
    [
        (Roar, {"shares": "50"}, "shares=50; allowed: at least two"),
        (Roar, {"shares": "50-10"}, "shares=50-10; allowed"),
        (Roar, {"shares": "10-10-20"}, "shares=10-10-20; allowed"),
        (Roar, {"shares": "0-50"}, "shares=0-50; allowed"),
        (Roar, {"shares": "10-100"}, "shares=10-100; allowed"),
        (Roar, {"shares": "10-x"}, "shares=10-x; allowed"),
        (RecursiveRoar, {"seeds": 0}, "seeds=0; allowed: 1 and more"),
        (RoarLeak, {"examples": 5}, "examples=5; allowed: 20 and more"),
        (Roar, {"steps": 0}, "steps=0; allowed"),
        (Simulatability, {"examples": 0}, "examples=0; allowed: 20"),
        (Simulatability, {"share": 0.0}, "share=0; allowed"),
        (Simulatability, {"weight": -1.0}, "weight=-1; allowed"),
        (Simulatability, {"seeds": 0}, "seeds=0; allowed"),
    ],
)
def test_bad_parameters_are_refused(metric, parameters, message):
    with pytest.raises(ValueError, match=message):
        metric(**parameters)
