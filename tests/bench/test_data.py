"""Data sets: catalogue, order, fingerprint, rationale share, local files, the hub, and what is refused."""

import hashlib
import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import datasets
import huggingface_hub
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrlab.bench.data import DATASETS, Dataset, load
from attrlab.bench.errors import UserError
from attrlab.bench.inputs import Example, words
from attrlab.bench.registry import load as load_object

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the prepared data are not beside the checkout")

ROWS = {
    "sst2:train": 67349,
    "sst2:dev": 872,
    "sst2:test": 1821,
    "sst2:train_sentences": 6920,
    "qnli:train": 9999,
    "qnli:dev": 5463,
    "qqp:train": 9505,
    "qqp:dev": 10000,
    "qqp:test": 10000,
    "fair_rationales:sst": 192,
    "fair_rationales:sst_unseen": 64,
    "fair_rationales:dynasent": 354,
    "eraser_movies:train": 1111,
    "eraser_movies:val": 140,
    "eraser_movies:test": 135,
    "hatexplain:val": 1379,
    "hatexplain:test": 1330,
    "mnli:train": 8999,
    "mnli:dev": 1000,
    "imdb_counterfactual:train": 1214,
    "imdb_counterfactual:dev": 165,
    "imdb_counterfactual:test": 336,
    "imdb_counterfactual:revised": 336,
    "eraser_multirc:val": 2488,
    "eraser_multirc:test": 3658,
    "lexicon:train": 10000,
    "lexicon:dev": 1000,
    "lexicon:test": 1000,
    "and_pair:test": 1000,
}
"""Numbers of rows as the sources state them."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return lambda name: load(name, data_dir=SHARED, cache_dir=cache)


@pytest.fixture
def local(tmp_path):
    """Writes a file and loads the data set it belongs to."""

    def write(name, file, content):
        folder = tmp_path / "data" / name.partition(":")[0]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
        return load(name, data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")

    return write


def made(labels, rationales=None, texts=None):
    """A data set with the given labels."""
    rows = (
        Example(
            id=f"x{i}",
            texts=(texts[i] if texts else "a b",),
            label=label,
            rationales=rationales[i] if rationales else None,
        )
        for i, label in enumerate(labels)
    )
    return Dataset(info=DATASETS["sst2"], part="dev", examples=tuple(rows))


def weighted(text, marks):
    """An example with graded marks."""
    return Example(id="w", texts=(text,), label=0, weights=(marks,))


def raw(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def chosen(tokens, marks):
    """The marked tokens."""
    return [token for token, mark in zip(tokens, marks, strict=True) if mark]


# --- the prepared data -----------------------------------------------------------------------------------------


@needs_data
@pytest.mark.parametrize("name", ROWS)
def test_row_counts_are_those_of_the_source(shared, name):
    found = shared(name)
    assert len(found.examples) == ROWS[name]
    assert {example.label for example in found.examples} == set(range(len(found.info.labels)))
    assert {len(example.texts) for example in found.examples} == {found.info.texts}


@needs_data
def test_sst2_is_read_as_it_stands(shared):
    first, second = shared("sst2").examples[:2]
    assert (first.id, first.texts, first.label) == ("dev-0", ("it 's a charming and often affecting journey .",), 1)
    assert (second.texts, second.label) == (("unflinchingly bleak and desperate",), 0)
    lines = (SHARED / "sst2" / "train.tsv").read_text(encoding="utf-8").split("\n")[1:-1]
    rows = [line.split("\t") for line in lines]
    assert [(*e.texts, str(e.label)) for e in shared("sst2:train").examples] == [tuple(row) for row in rows]


@needs_data
def test_pairs_stay_pairs_and_labels_follow_glue(shared):
    first = shared("qnli").examples[0]
    assert first.texts[0] == "What came into force after the new constitution was herald?"
    assert first.texts[1].startswith("As of that day, the new constitution")
    assert first.label == DATASETS["qnli"].labels.index("entailment") == 0
    question = shared("qqp").examples[0]
    assert question.texts[1] == "How do I get seed funding pre product ?"
    assert DATASETS["qqp"].labels[question.label] == "duplicate"


@needs_data
@pytest.mark.parametrize("part", ["sst", "sst_unseen", "dynasent"])
def test_fair_rationales_keep_the_annotators_of_the_label(shared, part):
    found = shared(f"fair_rationales:{part}")
    left_out = Counter()
    rows = raw(SHARED / "fair_rationales" / f"{found.info.stem(part)}.jsonl")
    rows = [row for row in rows if part != "sst_unseen" or row["sst2_split"] != "train"]
    for example, row in zip(found.examples, rows, strict=True):
        assert example.texts == (" ".join(row["tokens"]),)
        assert found.info.labels[example.label] == row["original_label"]
        kept = [one for one in row["annotations"] if one["label"] == row["original_label"]]
        left_out["none"] += not kept
        left_out["silent"] += sum(one["label"] == "no sentiment" for one in row["annotations"])
        left_out["all"] += len(row["annotations"]) - len(kept)
        assert len(example.rationales or ()) == len(kept)
        for (spans,), one in zip(example.rationales or (), kept, strict=True):
            assert [example.texts[0][a:b] for a, b in spans] == chosen(row["tokens"], one["rationale"])
            assert set(spans) <= set(words(example.texts[0]))
    notes = " ".join(found.info.notes_on(part))
    assert f"{left_out['all']} of" in notes
    assert f"({left_out['silent']} 'no sentiment', {left_out['all'] - left_out['silent']} of the other" in notes
    if part == "dynasent":
        assert f"{left_out['none']} of its 354 rows have no rationale" in notes


@needs_data
def test_fair_rationales_say_how_many_rows_sst2_trains_on(shared):
    rows = raw(SHARED / "fair_rationales" / "sst.jsonl")
    trained = sum(row["sst2_split"] == "train" for row in rows)
    assert f"{trained} of its {len(rows)} rows are in SST-2's training part" in DATASETS["fair_rationales"].notes["sst"]
    assert trained == 128
    known = {example.texts[0].casefold() for example in shared("sst2:train").examples}
    unseen = [example.texts[0].casefold() for example in shared("fair_rationales:sst_unseen").examples]
    assert len(unseen) == len(rows) - trained
    assert not known & set(unseen)


@needs_data
def test_eraser_spans_are_the_marked_words(shared):
    found = shared("eraser_movies")
    for example, row in zip(found.examples, raw(SHARED / "eraser_movies" / "test.jsonl"), strict=True):
        tokens = row["text"].split()
        expected = [tokens[a:b] for a, b in row["rationale_spans"] if a < b]
        assert [example.texts[0][a:b].split() for a, b in example.rationales[0][0]] == expected
        assert found.info.labels[example.label] == row["label"]


@needs_data
def test_hatexplain_spans_are_the_marked_tokens(shared):
    found = shared("hatexplain")
    for example, row in zip(found.examples, raw(SHARED / "hatexplain" / "test.jsonl"), strict=True):
        assert (example.rationales is None) == (row["label"] == "normal")
        assert len(example.rationales or ()) == len(row["rationales"])
        for (spans,), marks in zip(example.rationales or (), row["rationales"], strict=True):
            assert [example.texts[0][a:b] for a, b in spans] == chosen(row["tokens"], marks)


@needs_data
def test_tweets_are_split_by_text_and_keep_their_selection(shared):
    train, test = shared("tweet_sentiment_extraction:train"), shared("tweet_sentiment_extraction")
    assert test.part == "test"
    assert len(train.examples) + len(test.examples) == 19202
    assert 0.09 < len(test.examples) / 19202 < 0.11
    texts = [
        {"".join(filter(str.isalnum, example.texts[0].lower())) for example in part.examples} for part in (train, test)
    ]
    assert not texts[0] & texts[1]
    known = {example.id: example for example in (*train.examples, *test.examples)}
    sad = known["549e992a42"]
    ((span,),) = sad.rationales[0]
    assert sad.texts[0][slice(*span)] == "Sooo SAD"
    assert test.info.labels[sad.label] == "negative"


# --- order, fingerprint, share ---------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([0, 1, 2, None]), min_size=1, max_size=60))
def test_every_prefix_of_the_order_is_stratified(labels):
    order = made(labels).order
    assert sorted(order) == list(range(len(labels)))
    sizes = Counter(labels)
    for n in range(1, len(labels) + 1):
        taken = Counter(labels[index] for index in order[:n])
        for label, size in sizes.items():
            allowed = 1 if len(sizes) <= 2 else Fraction(1, 2) + Fraction(len(sizes), 2)
            assert abs(taken[label] - Fraction(n * size, len(labels))) <= allowed


def test_order_is_by_hash_of_the_id_and_not_by_position():
    dataset = made([0] * 20)
    by_hash = sorted(range(20), key=lambda i: hashlib.blake2b(f"x{i}".encode(), digest_size=16).digest())
    assert list(dataset.order) == by_hash
    assert [example.id for example in dataset.take(3)] == [f"x{i}" for i in by_hash[:3]]
    assert dataset.take(7)[:3] == dataset.take(3)
    assert len(dataset.take()) == len(dataset.take(99)) == 20


def test_fingerprint_depends_on_everything_a_score_depends_on():
    spans = ((((0, 1),),),)
    variants = [
        made([0, 1]),
        made([0, 0]),
        made([0, 1], texts=["a b", "a c"]),
        made([0, 1], rationales=[spans, None]),
        made([0, 1], rationales=[(((),),), None]),
        Dataset(info=DATASETS["qqp"], part="dev", examples=made([0, 1]).examples),
        replace(made([0, 1]), examples=(weighted("a b", ((0, 1, 0.5),)), made([0, 1]).examples[1])),
        replace(made([0, 1]), examples=(weighted("a b", ((0, 1, 0.6),)), made([0, 1]).examples[1])),
    ]
    assert len({dataset.fingerprint for dataset in variants}) == len(variants)
    assert made([0, 1]).fingerprint == made([0, 1]).fingerprint


def test_rationale_share_by_hand():
    text = "good, bad - ugly"
    one = (((0, 4),),)  # good
    two = (((0, 9),),)  # good, bad
    dash = (((10, 11),),)  # a dash is no word character
    dataset = made([0, 1, 0, 1], [(one, two, dash), (two,), None, (dash,)], [text] * 4)
    assert dataset.rationale_share == pytest.approx((1 / 4 + 2 / 4) / 2), "without a marked word there is no rationale"
    assert made([0], [(one, two)], [text]).rationale_share == 1 / 4, "half of the annotators is no majority"
    graded = ((0, 4, 0.6), (6, 9, 0.5))
    assert replace(made([0]), examples=(weighted(text, graded),)).rationale_share == 1 / 4, "more than half felt it"
    assert made([0], [(dash,)], [text]).rationale_share is None
    assert made([0, 1]).rationale_share is None


# --- local files -----------------------------------------------------------------------------------------------


def test_quotes_empty_texts_and_missing_looking_words_survive(local):
    found = local("sst2:dev", "dev.tsv", 'sentence\tlabel\n"an odd quote\t1\n\t0\nNA\tnegative\nnull "x"\t1\n1.50\t0\n')
    assert [example.texts[0] for example in found.examples] == ['"an odd quote', "", "NA", 'null "x"', "1.50"]
    assert [example.label for example in found.examples] == [1, 0, 0, 1, 0]


def test_windows_line_ends_byte_order_mark_and_last_blank_line(local):
    found = local("qqp:dev", "dev.tsv", "\ufefflabel\tquestion1\tquestion2\r\n1\ta b\tc\r\n0\td\te\r\n\r\n")
    assert [(e.texts, e.label) for e in found.examples] == [(("a b", "c"), 1), (("d", "e"), 0)]


def test_unpublished_labels_are_none(local):
    assert local("sst2:test", "test.tsv", "sentence\tlabel\na\t-1\n").examples[0].label is None


def test_parses_beside_the_texts_are_attached_and_enter_the_fingerprint(local):
    text = "sentence\tlabel\nfilms bore\t0\nunparsed\t1\n"
    plain = local("sst2:dev", "dev.tsv", text)
    columns = "1\tfilms\t_\t_\t_\t_\t2\t{}\t_\t_\n2\tbore\t_\t_\t_\t_\t0\troot\t_\t_\n\n"
    one, other = (local("sst2:dev", "dev.conllu", columns.format(relation)) for relation in ("nsubj", "obj"))
    assert [plain.examples[0].parses, one.examples[1].parses] == [None, (None,)]
    (parse,) = one.examples[0].parses
    assert [(node.head, node.relation) for node in parse.nodes] == [(1, "nsubj"), (-1, "root")]
    assert len({plain.fingerprint, one.fingerprint, other.fingerprint}) == 3


def test_an_edited_file_is_read_again(local):
    assert local("sst2:dev", "dev.tsv", "sentence\tlabel\nold\t1\n").examples[0].texts == ("old",)
    assert local("sst2:dev", "dev.tsv", "sentence\tlabel\nnew\t1\n").examples[0].texts == ("new",)


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        (
            "sst2:dev",
            "dev.tsv",
            "sentence\tlabel\nfine\t1\nbad\t7\n",
            r"dev.tsv, line 3: label '7'.*0 or negative, 1 or",
        ),
        ("sst2:dev", "dev.tsv", "sentence\tlabel\nno label\n", r"dev.tsv, line 2: 1 fields; the header has 2"),
        ("qqp:dev", "dev.tsv", "label\tquestion1\tquestion2\n1\ta\n", r"line 2: 2 fields; the header has 3"),
        ("sst2:dev", "dev.tsv", "text\tlabel\nfine\t1\n", r"no column 'sentence'; it has: text, label"),
        ("sst2:dev", "dev.tsv", b"sentence\tlabel\ncaf\xe9\t1\n", r"dev.tsv: not UTF-8 at byte 18;"),
        ("sst2:dev", "dev.tsv", "sentence\tlabel\n", r"dev.tsv has no row"),
        ("sst2:dev", "dev.tsv", "", r"dev.tsv has no row"),
        ("sst2:dev", "dev.tsv", "sentence\tlabel\na\tb\t1\n", r"line 2: 3 fields; the header has 2"),
        ("sst2:dev", "dev.tsv", "sentence\tlabel\na\t\n", r"line 2: label '' is not one of 'sst2'"),
        (
            "hatexplain",
            "test.jsonl",
            '{"id": "a", "label": null, "tokens": ["x"], "rationales": []}\n',
            r"line 1: column 'label' has no value",
        ),
        ("sst2:dev", "train.tsv", "sentence\tlabel\n", r"no such file: .*dev.tsv.*holds: train.tsv"),
        ("eraser_movies", "test.jsonl", "{broken\n", r"cannot read .*test.jsonl"),
        (
            "eraser_movies",
            "test.jsonl",
            '{"id": "a", "label": "POS", "text": "x y", "rationale_spans": [[1, 3]]}\n',
            r"test.jsonl, line 1: rationale span \[1, 3\) is outside the text of 2 words",
        ),
        (
            "hatexplain",
            "test.jsonl",
            '{"id": "a", "label": "normal", "tokens": ["x", "y"], "rationales": [[1]]}\n',
            r"line 1: a rationale has 1 marks for 2 tokens",
        ),
        (
            "hatexplain",
            "test.jsonl",
            '{"id": "a", "label": "normal", "tokens": ["x"], "rationales": []}\n' * 2,
            r"line 2: id 'a' occurs twice",
        ),
        (
            "tweet_sentiment_extraction:train",
            "train.csv",
            'textID,text,sentiment,start,end\na,"so, sad",negative,0,x\n',
            r"train.csv, row 1: not a row of 'tweet_sentiment_extraction' \(ValueError",
        ),
    ],
)
def test_broken_files_are_refused_in_one_line_with_the_place(local, name, file, content, message):
    with pytest.raises(UserError, match=message) as caught:
        local(name, file, content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cos_e", r"data set 'cos_e' is for no classifier: its answer is one of three texts of its own row"),
        ("lambada_rationales:test", r"'lambada_rationales' is for no classifier: it marks words for the next word"),
        ("sst", r"unknown data set 'sst'. Did you mean 'sst2'"),
        ("sst2:validation", r"unknown part of sst2 'validation'.*Known: dev, test, train"),
        ("lexicon:", r"unknown part of lexicon ''"),
        ("hatexplain", r"no folder .*hatexplain.*put hatexplain/test.jsonl \(columns tokens, id, label, rationales\)"),
    ],
)
def test_unknown_names_and_missing_folders(tmp_path, name, message):
    with pytest.raises(UserError, match=message):
        load(name, data_dir=tmp_path)


def test_data_folder_may_come_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("ATTRLAB_DATA", raising=False)
    with pytest.raises(UserError, match="no data folder was given"):
        load("hatexplain")
    monkeypatch.setenv("ATTRLAB_DATA", str(tmp_path / "gone"))
    with pytest.raises(UserError, match="no such data folder"):
        load("hatexplain")
    monkeypatch.setenv("ATTRLAB_DATA", str(tmp_path))
    monkeypatch.setenv("ATTRLAB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "sst2").mkdir()
    (tmp_path / "sst2" / "dev.tsv").write_text("sentence\tlabel\nfine\t1\n")
    assert load("sst2").examples[0].texts == ("fine",)
    assert (tmp_path / "cache" / "datasets").is_dir()


# --- the hub ---------------------------------------------------------------------------------------------------


@pytest.fixture
def online(monkeypatch):
    monkeypatch.delenv("ATTRLAB_DATA", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *args, **kwargs: None)


def test_hub_rows_become_examples_by_label_name(online, monkeypatch, tmp_path):
    """A hub that orders its classes in another way than we do must not swap the labels."""
    asked = []

    def table(*args, **kwargs):
        asked.append((*args, kwargs["split"]))
        names = datasets.ClassLabel(names=["not_entailment", "entailment"])
        features = {"question": datasets.Value("string"), "sentence": datasets.Value("string"), "label": names}
        rows = {"question": ["a", "b", "c"], "sentence": ["x", "y", ""], "label": [0, 1, -1]}
        return datasets.Dataset.from_dict(rows, features=datasets.Features(features))

    monkeypatch.setattr(datasets, "load_dataset", table)
    found = load("qnli:dev", cache_dir=tmp_path)
    assert asked == [("nyu-mll/glue", "qnli", "validation")]
    assert [(e.id, e.texts, e.label) for e in found.examples] == [
        ("dev-0", ("a", "x"), 1),
        ("dev-1", ("b", "y"), 0),
        ("dev-2", ("c", ""), None),
    ]


def test_part_that_the_hub_lacks(online):
    with pytest.raises(UserError, match=r"unknown part of sst2 on the hub 'train_sentences'"):
        load("sst2:train_sentences")


def test_unreachable_hub_is_one_quick_quiet_line(tmp_path):
    """A closed port stands for every hub that cannot be reached: no retries, no log lines, nothing but the error."""
    code = (
        "from attrlab.bench.data import load\nfrom attrlab.bench.errors import UserError\n"
        "try:\n    load('sst2')\nexcept UserError as error:\n    print(error)\n"
    )
    environment = {"PATH": "", "HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"}
    start = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert time.monotonic() - start < 15
    assert ended.stderr == ""
    assert ended.stdout.startswith("cannot get sst2:dev from the hub (nyu-mll/glue): ConnectError")
    assert "put sst2/dev.tsv under the data folder" in ended.stdout
    assert ended.stdout.count("\n") == 1


def test_loggers_and_progress_bars_are_restored(local):
    before = datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    with pytest.raises(UserError, match="cannot read"):
        local("hatexplain", "test.jsonl", "{broken\n")
    assert (datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()) == before


# --- catalogue -------------------------------------------------------------------------------------------------


def test_catalogue_is_consistent():
    for name, info in DATASETS.items():
        assert name == info.name
        assert info.evaluation in info.parts
        assert info.train is None or info.train in info.parts
        assert set(info.notes) <= {"", *info.parts}
        assert info.rationales in ("", "human", "derived", "planted")
        assert set(info.within.items()) <= {(part, stem) for part in info.parts for stem in info.parts}
        assert bool(info.key) >= bool(info.beside)
        assert (info.source == "embedded") == (not info.file)
        assert (info.source == "hub") == bool(info.hub_id)
        assert callable(load_object(info.where))


def test_importing_the_catalogue_loads_no_library():
    code = (
        "import sys, attrlab.bench.data\n"
        "print([name for name in ('numpy', 'torch', 'datasets', 'sklearn') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"
