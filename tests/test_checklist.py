"""Ten defects that other benchmarks had, and the tests that would have caught them: end to end, over the catalogue."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checking import (
    ASKING,
    BLIND,
    BROKEN,
    FAMILIES,
    JUDGED,
    REAL,
    SAMPLE,
    SCORED,
    SHORT,
    TOLERANCE,
    Worked,
    asked_of,
    change,
    company,
    explained,
    fits,
    gap,
    inputs,
    intended,
    judge,
    made_up,
    plain,
    rows,
    run,
    shortcut,
    tiny,
    units,
    watched,
    work,
)

from attrlab.bench import engine as engines
from attrlab.bench import testing, train
from attrlab.bench.errors import UserError
from attrlab.bench.inputs import Encoded, Example
from attrlab.bench.model import TextModel
from attrlab.bench.registry import METHODS
from attrlab.bench.removal import FIXED, whole
from attrlab.leaderboard.load import read
from attrlab.leaderboard.statistics import aggregate
from attrlab.metrics import CATALOGUE


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with train.one_thread():
        yield


@pytest.fixture(scope="module", params=FAMILIES)
def worked(request: pytest.FixtureRequest) -> Worked:
    return work(request.param)


on_one_model = pytest.mark.parametrize("worked", FAMILIES[:1], indirect=True)


# --- 1. the ids that the model sees are those that are intended


@pytest.mark.parametrize("operator", FIXED)
@pytest.mark.parametrize("mini", FAMILIES)
def test_01_ids_under_every_operator_on_ids(mini: str, operator: str) -> None:
    model = tiny(mini)
    for one in SHORT:
        asking = [name for name in ASKING if CATALOGUE[name].asks]
        with watched(model) as seen:
            judged = judge(asked_of(model, [one]), made_up([one], model, random=np.copy), asking, operator=operator)
        wanted = {
            intended(model, one.texts, keep, operator)
            for heard in judged.heard.values()
            for ask, _ in heard
            for keep in ask.keep
        }
        assert set(rows(seen)) == wanted
        assert len(wanted) > 2


@pytest.mark.parametrize("operator", ["random", "mlm", "zero", "mean"])
@pytest.mark.parametrize("mini", FAMILIES)
def test_01_what_is_kept_is_seen_under_operators_that_draw_or_embed(mini: str, operator: str) -> None:
    model = tiny(mini)
    for one in SHORT:
        with watched(model) as seen:
            judged = judge(
                asked_of(model, [one]), made_up([one], model, random=np.copy), ["insertion_auc"], operator=operator
            )
        asked = [keep for heard in judged.heard.values() for ask, _ in heard for keep in ask.keep]
        ids, _, words = units(model, one.texts)
        patterns = [
            [token if word < 0 or keep[word] else None for token, word in zip(ids, words, strict=True)]
            for keep in asked
        ]
        if operator in ("random", "mlm"):
            given = [[token for token, *_ in row] for row in rows(seen)]
            found = np.array([[fits(row, pattern, operator) for pattern in patterns] for row in given])
        else:
            own = model.embedding
            other = own.mean(0) if operator == "mean" else torch.zeros_like(own[0])
            wanted = [torch.stack([other if token is None else own[token] for token in row]) for row in patterns]
            given = [row[: len(ids)] for batch in seen for row in batch["inputs_embeds"]]
            found = np.array([[torch.allclose(row, rest, atol=1e-6) for rest in wanted] for row in given])
        assert found.any(axis=0).all(), "all that is asked is seen"
        assert found.any(axis=1).all(), "nothing else is seen"


# --- 2. what removing nothing and removing all must give


@pytest.mark.parametrize(
    ("metric", "same"),
    [
        ("sufficiency:at=1", 0.0),  # keeps every word: erases nothing
        ("comprehensiveness:at=1", None),
        ("log_odds:at=1", None),
        ("erasure_kl:at=1", None),
    ],
)
def test_02_all_methods_meet_where_nothing_or_all_is_removed(worked: Worked, metric: str, same: float | None) -> None:
    judged = judge(worked.engine, worked.of(), [metric])
    seen: set[float] = set()
    for one in inputs():
        values = {round(score.value, 12) for (_, _, example), score in judged.scores.items() if example == one.id}
        assert len(values) == 1
        seen |= values
    assert seen == {same} if same is not None else any(seen), "something is worth something"


def test_02_both_curves_end_at_the_prediction_and_at_the_empty_input(worked: Worked) -> None:
    """The last input of insertion is the text itself, under every metric and method that asks, to the bit."""
    plain = {one.id: worked.model.encode(one) for one in inputs()}
    full: dict[str, set[bytes]] = {one.id: set() for one in inputs()}
    empty: dict[str, set[bytes]] = {one.id: set() for one in inputs()}
    for (metric, _, example), heard in worked.judged.heard.items():
        for ask, logits in heard:
            full[example] |= {row.tobytes() for row in logits[(ask.keep == 1).all(1)]}
            if ask.operator in (None, "delete"):
                empty[example] |= {row.tobytes() for row in logits[(ask.keep == 0).all(1)]}
            if metric in ("insertion_auc", "deletion_auc"):
                ends = {bool(keep.all()) for keep in ask.keep if keep.all() or not keep.any()}
                assert ends == {True, False}
    for name, one in plain.items():
        with torch.inference_mode():
            logits = worked.model.network(input_ids=torch.from_numpy(one.ids)[None], **_segments(worked.model, one))
        (found,), _ = full[name], empty[name]
        assert np.abs(np.frombuffer(found) - logits.logits[0].double().numpy()).max() < TOLERANCE


def _segments(model: TextModel, one: Encoded) -> dict[str, torch.Tensor]:
    known = "token_type_ids" in model.tokenizer.model_input_names
    return {"token_type_ids": torch.from_numpy(one.segments)[None]} if known else {}


NOTHING: dict[str, float | None] = {
    **dict.fromkeys(("comprehensiveness", "sufficiency", "aopc_comprehensiveness", "aopc_sufficiency"), 0.0),
    **dict.fromkeys(("log_odds", "erasure_kl", "road_proxy", "decision_flip_first", "effective_complexity"), 0.0),
    **dict.fromkeys(("deletion_auc", "insertion_auc"), None),
    **dict.fromkeys(("decision_flip_fraction", "unused_words", "non_sensitivity"), 1.0),
}
"""What metrics are worth where nothing is erased, None for the prediction itself; the others are undefined then."""
NOTHING_ASKED = {"conservation_gap"}
"""What asks about the full input alone."""


def test_02_an_operator_that_erases_nothing_is_worth_nothing(worked: Worked) -> None:
    judged = judge(
        asked_of(worked.model, inputs()),
        worked.of(*SAMPLE),
        ASKING,
        change=lambda ask: replace(ask, keep=np.ones_like(ask.keep)),
    )
    for (metric, _, example), one in judged.scores.items():
        if metric in NOTHING_ASKED:
            continue
        if metric not in NOTHING:
            assert np.isnan(one.value), metric
        elif NOTHING[metric] is None:
            (_, logits), *_ = judged.heard[metric, "random", example]
            assert one.value == pytest.approx(float(np.exp(logits[0, 0] - np.logaddexp.reduce(logits[0]))), abs=1e-12)
        else:
            assert one.value == NOTHING[metric], metric


# --- 3. company


@pytest.mark.parametrize(
    ("worked", "alone"), [*((mini, False) for mini in FAMILIES), (FAMILIES[0], True)], indirect=["worked"]
)
def test_03_no_score_depends_on_order_padding_or_batches(
    worked: Worked, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    found, options = (inputs(), {"token_budget": 0}) if alone else company(monkeypatch)
    again = judge(asked_of(worked.model, found, **options), worked.of(*SAMPLE))
    assert again.scores.keys() == worked.judged.scores.keys()
    worst = max((gap(one.value, again.scores[key].value), key) for key, one in worked.judged.scores.items())
    assert worst[0] <= TOLERANCE, worst


def test_03_no_attribution_depends_on_order_padding_or_batches(worked: Worked, monkeypatch: pytest.MonkeyPatch) -> None:
    found, options = company(monkeypatch)
    for method, before in worked.attributions.items():
        after = explained(worked.model, found, method, **options)
        for example, one in before.items():
            assert one.scores is not None
            assert after[example].scores is not None
            largest = max(np.abs(one.scores).max(), 1e-3)  # below, what is left of cancellation
            assert np.abs(one.scores - after[example].scores).max() <= TOLERANCE * largest, method


@pytest.mark.parametrize("metric", ["lds", "lds_share"])
def test_03_a_rank_correlation_of_answers_is_as_stable_as_their_ranks(
    monkeypatch: pytest.MonkeyPatch, metric: str
) -> None:
    """Answers that differ by the last bit of single precision change places under other padding; in double none do."""
    single, long = tiny(FAMILIES[2]), Example(id="long", texts=(testing.TEXTS[1], testing.TEXTS[0]), label=0)
    double = TextModel(deepcopy(single.network).double(), single.tokenizer, single.name)
    for model, tolerance in ((single, 1e-3), (double, TOLERANCE)):
        made, values = made_up([long], model, random=np.copy), []
        for lengths in ((24, 48), (60, 120)):
            monkeypatch.setattr(engines, "LENGTHS", lengths)
            (score,) = judge(asked_of(model, [long]), made, [metric]).scores.values()
            values.append(score.value)
        assert gap(*values) <= tolerance


# --- 4. scale and ties


SIZED = {"completeness_gap": "compares a total of scores with a number of the model's own"}
"""Metrics that look at the size of scores, and why."""
UNDECLARED = {"noise_stability": "a change relative to its explanation: of no scale, though its card does not say so"}


@on_one_model
def test_04_seven_times_the_scores_changes_no_metric_of_ranks_or_shape(worked: Worked) -> None:
    assert {name for name in SCORED if "scale" not in CATALOGUE[name].invariances} <= {*SIZED, *UNDECLARED}
    found = worked.of(*SAMPLE)
    plain, larger = (judge(worked.engine, found, times=times) for times in (1.0, 7.0))
    changed = {key[0] for key, one in plain.scores.items() if gap(one.value, larger.scores[key].value) > 1e-9}
    assert changed == set(SIZED)


@on_one_model
def test_04_ties_give_a_number_wherever_distinct_scores_do(worked: Worked) -> None:
    """With ties, words are as many as before; only where all are equal may a comparison of scores be undefined."""
    shapes = {
        "distinct": np.copy,
        "tied": lambda draws: np.where(draws > draws.min(), 1.0, -0.5),
        "equal": np.ones_like,
    }
    judged = judge(worked.engine, made_up(inputs(), worked.model, **shapes), UNCLAIMED)
    for (metric, shape, example), one in judged.scores.items():
        assert np.isfinite(one.value) or one.reason
        if np.isfinite(judged.scores[metric, "distinct", example].value):
            family = CATALOGUE[metric].family
            excused = shape == "equal" and (metric in COMPARING or family in ("stability", "sanity"))
            assert np.isfinite(one.value) or excused, (metric, shape, one.reason)


UNCLAIMED = [name for name in SCORED if "complete" not in CATALOGUE[name].needs]
COMPARING = {"faithfulness_correlation", "sensitivity_n", "lds", "lds_share", "monotonicity", "tau_loo"}
"""Correlations: equal scores have none."""


# --- 5. bins, and what has no value


@on_one_model
def test_05_every_explanation_is_asked_about_as_many_words(worked: Worked) -> None:
    shapes = {
        "all positive": np.abs,
        "two positive": lambda draws: draws - np.sort(draws)[-min(3, len(draws))],
        "all negative": lambda draws: -np.abs(draws),
        "ties": np.sign,
    }
    made = made_up(inputs(), worked.model, **shapes) | worked.of(*SAMPLE)
    judged = judge(worked.engine, made, [name for name in ASKING if name in UNCLAIMED])
    for metric, one in product(UNCLAIMED, inputs()):
        counts = {
            method: Counter(count for ask, _ in heard for count in np.round(ask.keep.sum(1), 9))
            for method, heard in judged.by_method(metric, one.id).items()
        }
        if not counts or metric in UNCOUNTED:
            continue
        asked = {frozenset(found) for found in counts.values() if found}
        assert len(asked) <= 1, metric
        untied = [found for method, found in counts.items() if found and method != "ties"]
        assert all(found == untied[0] for found in untied), metric


UNCOUNTED = {
    **dict.fromkeys(("soft_comprehensiveness", "soft_sufficiency"), "weaken words rather than remove so many"),
    "road_proxy": "also removes a few words that are the same for all methods, which may be among the top ones",
}
"""Metrics that do not remove numbers of words fixed beforehand, and why."""


def test_05_what_has_no_value_is_counted_in_the_output(results: Path) -> None:
    """Every example of every cell of every metric has a value or is counted with a reason."""
    partly = 0
    for one in aggregate(read(results)):
        if one.status == "skipped":
            assert one.reason
            continue
        counted = [int(count) for count in re.findall(r"(?:^|; )(\d+) of \d+: ", one.reason or "")]
        unsaid = one.n_total - one.n_scored - sum(counted)
        assert (unsaid > 0) if "more reasons" in (one.reason or "") else (unsaid == 0), one
        assert (one.mean is None) == (one.n_scored == 0)
        partly += 0 < one.n_scored < one.n_total
    assert partly > 50
    totals = {(one.dataset, one.column): set() for one in aggregate(read(results))}
    for one in aggregate(read(results)):
        totals[one.dataset, one.column].add(one.n_total)
    assert {len(found) for found in totals.values()} == {1}, "every method is scored on as many examples"


# --- 6. what is explained is what is deployed


def test_06_the_explained_forward_is_the_plain_one(worked: Worked) -> None:
    """By ids and by embeddings, among others in a padded batch."""
    model, encoded = worked.model, [worked.model.encode(one) for one in inputs()]
    batch = model.collate([whole(one) for one in encoded], length=40)
    with torch.inference_mode():
        found = [model.forward(batch).logits, model.forward(batch, model.embed(batch)).logits]
    for row, one in enumerate(encoded):
        for logits in found:
            assert np.abs(logits[row].double().numpy() - plain(model, one)[0]).max() < TOLERANCE


NOISED = {"smoothgrad", "smoothgrad_input_x_gradient", "squaregrad", "vargrad", "gradient_shap"}
"""Methods that look at noised inputs alone."""
MOVED = {"sequential_integrated_gradients", "sequential_integrated_gradients_l2"}
"""Methods that move each word in turn, and see the text itself by chance."""
INTEGRATES = "attention_attribution"
"""Shrinks the attention in every pass."""


def test_06_white_box_methods_look_into_the_plain_forward(worked: Worked) -> None:
    model, encoded = worked.model, [worked.model.encode(one) for one in inputs()]
    known = [(model.embedding[torch.from_numpy(one.ids)], plain(model, one)[1]) for one in encoded]
    inside = [name for name, facts in METHODS.entries().items() if "embeddings" in facts.needs]
    passes: list[tuple[torch.Tensor, torch.Tensor]] = []

    def note(_module: Any, args: tuple[Any, ...], given: dict[str, Any], output: Any) -> None:
        ids = args[0] if args else given.get("input_ids")
        embeds = model.embedding[ids] if given.get("inputs_embeds") is None else given["inputs_embeds"]
        passes.extend(zip(embeds.detach(), output.last_hidden_state.detach(), strict=True))

    hook = model.network.base_model.register_forward_hook(note, with_kwargs=True)
    gaps: dict[str, dict[int, float]] = {name: {} for name in inside}
    for name in inside:
        passes.clear()
        explained(model, inputs(), name)
        for (embeds, states), (own, state_) in product(passes, known):
            if torch.equal(embeds[: len(own)], own):
                read = states[len(own) - 1 if model.decoder else 0]
                found = float((read - state_).abs().max())
                gaps[name][len(own)] = min(found, gaps[name].get(len(own), np.inf))
    hook.remove()
    assert NOISED <= {name for name, found in gaps.items() if not found} <= NOISED | MOVED
    assert {name for name, found in gaps.items() if max(found.values(), default=0.0) > TOLERANCE} <= {INTEGRATES}
    assert {len(found) for name, found in gaps.items() if name not in NOISED | MOVED} == {len(inputs())}


# --- 7. a planted shortcut


@pytest.mark.parametrize("metric", [name for name in JUDGED if name not in BLIND])
def test_07_the_oracle_beats_methods_and_these_beat_noise(metric: str) -> None:
    sign = 1 if CATALOGUE[metric].higher_is_better else -1
    mean = shortcut()[metric]
    real = float(np.mean([mean[name] for name in REAL]))
    assert sign * (real - mean["noise"]) > 0.05
    assert sign * (mean["oracle"] - real) > 1e-4
    for name in REAL:
        assert sign * (mean["oracle"] - mean[name]) > -1e-2, "no method beats the oracle but by luck"


def test_08_neither_model_nor_tokenizer_is_changed_by_any_method_or_metric(worked: Worked) -> None:
    assert len(worked.states) == 1 + len(METHODS.entries()) + len(SCORED)
    assert {name for name, after in worked.states.items() if after != worked.states["before"]} == set()


# --- 9 and 10: what is stored


METHODS_RUN = ("random", "leave_one_out")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every metric, and beside what works two methods and a metric that do not."""
    with train.one_thread():
        folder = tmp_path_factory.mktemp("checklist")
        (folder / "mine.py").write_text(BROKEN)
        broken = [f"{folder}/mine.py:{name}" for name in ("Broken", "Sometimes", "BrokenMetric")]
        return run(folder, [*broken[:2], *METHODS_RUN], [broken[2], *SCORED])


BAD: dict[str, tuple[str, Callable[[list[Any]], Any]]] = {
    "missing example": ("scores", lambda rows_: rows_.pop()),
    "duplicate": ("scores", lambda rows_: rows_.__setitem__(1, rows_[0])),
    "missing attribution": ("attributions", lambda rows_: rows_.pop()),
    "duplicate attribution": ("attributions", lambda rows_: rows_.__setitem__(1, rows_[0])),
    "wrong length": ("attributions", lambda rows_: rows_[0]["scores"].append(0.5)),
    "a score that is not a number": ("attributions", lambda rows_: rows_[0]["scores"].append(None)),
    "not a number": ("scores", lambda rows_: rows_[0].__setitem__("value", "high")),
    "nothing": ("scores", lambda rows_: rows_[0].pop("example")),
}


@pytest.mark.parametrize("name", BAD)
def test_09_rows_that_are_not_those_of_the_run_are_refused(results: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(results, tmp_path / "copy"))
    change(folder, *BAD[name])
    with pytest.raises(UserError, match="again"):
        read(folder)


@pytest.mark.parametrize("forged", [False, True])
def test_09_a_chunk_that_is_not_what_its_name_says_is_refused(results: Path, tmp_path: Path, forged: bool) -> None:
    folder = Path(shutil.copytree(results, tmp_path / "copy"))
    keys = json.loads((folder / "run.json").read_text())["cells"][0]["attributions"]
    one, other = (folder / "attributions" / f"{key}.json" for key in keys[:2])
    content = json.loads((other if forged else one).read_text())
    content["of"]["model"] = "0" * 32 if forged else content["of"]["model"]
    other.write_text(json.dumps(content))
    with pytest.raises(UserError, match=other.name):
        read(folder)


def test_09_means_are_those_of_the_records(results: Path, tmp_path: Path) -> None:
    """No mean is stored that could differ: one that is written into a table is not read again."""
    folder = Path(shutil.copytree(results, tmp_path / "copy"))
    (folder / "table.csv").write_text((folder / "table.csv").read_text().replace("0.", "9."))
    cells = {(cell["dataset"], cell["method"]): cell for cell in json.loads((folder / "run.json").read_text())["cells"]}
    board = read(folder)
    found = {(one.dataset, one.method, one.column): one.mean for one in aggregate(board)}
    checked = 0
    for (dataset, method), cell in cells.items():
        for column, stored in zip(board.columns, cell["scores"], strict=True):
            chunks = [json.loads((folder / "scores" / f"{key}.json").read_text()) for key in stored["keys"]]
            values = [row["value"] for chunk in chunks for row in chunk["rows"] if row["value"] is not None]
            mean = found[dataset, method, column]
            assert mean == (pytest.approx(np.mean(values), rel=1e-12, abs=1e-15) if values else None)
            checked += bool(values)
    assert checked > 100


def test_10_a_failing_cell_leaves_all_others_as_they_are(
    results: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    clean = run(tmp_path_factory.mktemp("clean"), METHODS_RUN, ALONE)

    def cells(folder: Path, wanted: Sequence[str]) -> dict[tuple[str, str, str], Any]:
        return {
            (one.dataset, Path(one.method).name, one.column.metric): replace(one, model="")
            for one in aggregate(read(folder))
            if Path(one.method).name in wanted and one.column.metric in ALONE
        }

    assert cells(results, METHODS_RUN) == cells(clean, METHODS_RUN)
    failed = cells(results, ["mine.py:Broken"])
    assert len(failed) == 2 * len(ALONE)
    assert {one.status for one in failed.values()} == {"failed", "skipped"}
    assert all("no method" in one.reason for one in failed.values() if one.status == "failed")
    sometimes = cells(results, ["mine.py:Sometimes"])["sst2:dev", "mine.py:Sometimes", "gini"]
    assert (sometimes.status, sometimes.n_scored, sometimes.n_total) == ("ok", 2, 5)
    broken = [one for one in aggregate(read(results)) if "BrokenMetric" in one.column.metric]
    assert len(broken) == 2 * 4
    assert {one.n_scored for one in broken} == {0}
    assert {one.status for one in aggregate(read(results)) if one.method == "random"} >= {"ok", "skipped"}


ALONE = [
    name
    for name in SCORED
    if not CATALOGUE[name].replicates and not CATALOGUE[name].measured and CATALOGUE[name].family != "cost"
]
"""Metrics whose values are the same in another run: they measure no time, and need few models."""
