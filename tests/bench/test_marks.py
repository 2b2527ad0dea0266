"""Which words a mark is on, graded marks, and that both reach the metrics through a run."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrlab.bench.errors import UserError
from attrlab.bench.inputs import Example, Word, coverage
from attrlab.bench.testing import tiny

TEXT = "so good, so - bad"


def make(**fields):
    return Example(id="x", texts=(TEXT,), label=0, **fields)


@pytest.mark.parametrize(
    ("span", "marked"),
    [
        ((3, 7), [0, 1, 0, 0, 0]),
        ((2, 9), [0, 1, 0, 0, 0]),  # a blank on either side
        ((7, 8), [0, 0, 0, 0, 0]),  # the comma alone
        ((1, 4), [1, 1, 0, 0, 0]),  # inside words
        ((12, 13), [0, 0, 0, 0, 0]),  # a dash is no word character
        ((0, 17), [1, 1, 1, 0, 1]),
    ],
)
def test_a_mark_is_on_a_word_if_they_share_a_letter_or_digit(span, marked):
    example = make(rationales=(((span,),),))
    assert example.shares().tolist() == marked
    assert tiny().encode(example).rationale(example.rationales[0]).tolist() == [bool(one) for one in marked]


@given(st.lists(st.tuples(st.integers(0, 16), st.integers(1, 17), st.sampled_from([0.25, 0.5, 1.0])), max_size=5))
def test_coverage_is_the_highest_weight_of_any_letter(marks):
    marks = [(start, end, weight) for start, end, weight in marks if start < end]
    places = make().words
    expected = [
        max((w for a, b, w in marks for i in range(max(a, p.start), min(b, p.end)) if TEXT[i].isalnum()), default=0)
        for p in places
    ]
    assert coverage([TEXT], [marks], places).tolist() == expected


def test_shares_count_every_annotator_and_both_texts():
    example = Example(
        id="x", texts=("a b", "c"), label=0, rationales=((((0, 1),), ()), (((0, 3),), ((0, 1),)), ((), ()))
    )
    assert example.words == (Word(0, 0, 1), Word(0, 2, 3), Word(1, 0, 1))
    assert example.shares() == pytest.approx([2 / 3, 1 / 3, 1 / 3])
    assert make().shares().tolist() == [0, 0, 0, 0, 0]
    assert make(weights=(((0, 7, 0.5), (3, 7, 0.25)),)).shares().tolist() == [0.5, 0.5, 0, 0, 0]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((((0, 18, 0.5),),), r"rationale span \[0, 18\) is outside the text of 17 characters"),
        ((((0, 1, 0.0),),), r"the weight 0.0 of a mark is not in \(0, 1\]"),
        ((((0, 1, 1.5),),), r"the weight 1.5 of a mark is not in \(0, 1\]"),
        (((), ()), r"a rationale marks 2 texts of 1"),
    ],
)
def test_bad_marks_are_refused(weights, message):
    with pytest.raises(UserError, match=message):
        make(weights=weights)


def test_marks_that_truncation_cuts_off_are_counted():
    text = " ".join(["word"] * 200)
    spans = tuple((5 * index, 5 * index + 4) for index in (0, 1, 198, 199))
    example = Example(id="long", texts=(text,), label=0, rationales=((spans,), (spans[:1],)))
    encoded = tiny().encode(example)
    assert encoded.dropped > 2
    assert encoded.rationale((spans,)).sum() == 2
    assert encoded.lost == 2
    assert tiny().encode(make(rationales=((((0, 2),),),))).lost == 0


# --- through a run ---------------------------------------------------------------------------------------------

ROWS = """human_label\torig_text\tprocessed_text\tperception_scores
0.0\tA truly wonderful film .\ta truly wonderful film\t0 0.3333 1 0
1.0\tA dull , dull film\ta dull dull film\t0 -0.6667 -1 0.3333
0.5\tIt has an end\tit has an end\t0 1 0 0
"""
SUITE = """
models = ["{model}"]
datasets = ["hummingbird"]
methods = ["leave_one_out", "random"]
metrics = [
  "auprc:predictions=all", "token_f1:annotators=soft,predictions=all,k=oracle", "auprc", "auprc:predictions=wrong",
  "attrlab.metrics.ceilings:ChanceLevel:of=auprc:predictions=all",
]

[explain]
target = "gold"
"""


def test_graded_marks_and_wrong_predictions_reach_the_metrics(attrlab, tmp_path):
    (tmp_path / "data" / "hummingbird").mkdir(parents=True)
    (tmp_path / "data" / "hummingbird" / "sentiment.tsv").write_text(ROWS, encoding="utf-8")
    (tmp_path / "marks.toml").write_text(SUITE.format(model=attrlab.model), encoding="utf-8")
    called = attrlab("run", tmp_path / "marks.toml", "--data-dir", tmp_path / "data", "--workers", 1, "--out", "o")
    assert called.code == 0, called
    stored = {kind: rows(tmp_path / "o" / kind) for kind in ("predictions", "scores")}
    predicted = {row["example"]: row for chunk in stored["predictions"] for row in chunk["rows"]}
    assert predicted["sentiment-0"]["weights"] == [0, 0.3333, 1, 0, 0]
    assert predicted["sentiment-1"]["weights"] == [0, 0.6667, 0, 1, 0]
    assert predicted["sentiment-2"]["reason"] == "no gold label to explain"
    assert predicted["sentiment-0"]["lost"] == 0
    labelled = [predicted[name] for name in ("sentiment-0", "sentiment-1")]
    right = [row["example"] for row in labelled if row["correct"]]
    for chunk in stored["scores"]:
        scored = {row["example"] for row in chunk["rows"] if row["value"] is not None}
        settings = chunk["of"]["metric"]["params"]
        everything = {row["example"] for row in labelled}
        wanted = {"all": everything, "wrong": everything - set(right)}
        predictions = settings.get("predictions") or settings.get("of", "").rpartition("=")[2]
        assert scored == wanted.get(predictions, set(right)), settings


def rows(folder):
    return [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
