"""The data sets with rationales beyond the first four: what is marked, what has no label, what is refused."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from attrlab.bench.data import DATASETS, load
from attrlab.bench.errors import UserError
from attrlab.bench.inputs import words

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the prepared data are not beside the checkout")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return lambda name: load(name, data_dir=SHARED, cache_dir=cache)


@pytest.fixture
def local(tmp_path):
    """Writes files of a data set and loads it."""

    def write(name, **files):
        folder = tmp_path / "data" / name.partition(":")[0]
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            lines = content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content)
            (folder / file.replace("_", ".")).write_text(lines, encoding="utf-8")
        return load(name, data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")

    return write


def raw(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def letters(text):
    return "".join(char for char in text.casefold() if char.isalnum())


# --- the prepared data -----------------------------------------------------------------------------------------


@needs_data
def test_hummingbird_marks_the_words_felt_as_the_label(shared):
    found = shared("hummingbird")
    lines = (SHARED / "hummingbird" / "sentiment.tsv").read_text(encoding="utf-8").split("\n")[1:-1]
    labels = Counter()
    for example, line in zip(found.examples, lines, strict=True):
        human, _, text, processed, scores = line.split("\t")
        assert example.texts == (text,)
        assert example.rationales is None
        assert example.label == {"0.0": 1, "0.5": None, "1.0": 0}[human]
        labels[example.label] += 1
        if example.label is None:
            assert example.weights is None
            continue
        sign = 1 if example.label else -1
        felt = [(word, sign * float(score)) for word, score in zip(processed.split(), scores.split(), strict=True)]
        expected = [(letters(word), score) for word, score in felt if score > 0]
        assert [(letters(text[start:end]), weight) for start, end, weight in example.weights[0]] == expected
    assert labels == {0: 200, 1: 97, None: 79}
    assert "79 of its 376 texts are neutral and have no label" in found.info.notes_on("sentiment")


@needs_data
def test_hummingbird_says_which_texts_are_in_sst2(shared):
    texts = {letters(example.texts[0]) for example in shared("hummingbird").examples}
    known = {
        part: texts & {letters(one.texts[0]) for one in shared(f"sst2:{part}").examples} for part in ("train", "dev")
    }
    assert (len(known["train"]), len(known["dev"])) == (0, 80)
    assert "80 texts are in SST-2's dev part, none in its training part" in DATASETS["hummingbird"].notes[""]


@needs_data
@pytest.mark.parametrize("part", ["test", "revised"])
def test_imdb_marks_what_was_edited(shared, part):
    side = "revised" if part == "revised" else "original"
    found = shared(f"imdb_counterfactual:{part}")
    for example, row in zip(found.examples, raw(SHARED / "imdb_counterfactual" / "test.jsonl"), strict=True):
        tokens = row[f"{side}_text"].split()
        expected = [tokens[start:end] for start, end in row[f"{side}_edited_spans"]]
        assert example.texts == (row[f"{side}_text"],)
        assert [example.texts[0][start:end].split() for start, end in example.rationales[0][0]] == expected
        assert found.info.labels[example.label] == row[f"{side}_label"]
    assert found.info.rationales == "derived"


@needs_data
def test_an_edited_review_has_the_other_label(shared):
    original, revised = (shared(f"imdb_counterfactual:{part}").examples for part in ("test", "revised"))
    assert all(one.label == 1 - other.label for one, other in zip(original, revised, strict=True))


@needs_data
def test_multirc_pairs_the_question_and_answer_with_the_passage(shared):
    documents = {row["docid"]: row["sentences"] for row in raw(SHARED / "eraser_multirc" / "docs.jsonl")}
    found = shared("eraser_multirc:val")
    for example, row in zip(found.examples, raw(SHARED / "eraser_multirc" / "val.jsonl"), strict=True):
        sentences = documents[row["docid"]]
        assert example.texts == (f"{row['question']} {row['answer']}", " ".join(sentences))
        ((none, marked),) = example.rationales
        assert none == ()
        assert [example.texts[1][start:end] for start, end in marked] == [
            sentences[i] for i in row["evidence_sentences"]
        ]
        assert found.info.labels[example.label] == row["label"]


@needs_data
def test_livenli_keeps_the_annotators_who_gave_the_label_alone(shared):
    found = shared("livenli")
    rows, names = raw(SHARED / "livenli" / "livenli.jsonl"), {"true": 0, "either": 1, "false": 2}
    kept = of = without = 0
    assert [example.id for example in found.examples] == list(dict.fromkeys(row["uid"] for row in rows))
    for example in found.examples:
        own = [row for row in rows if row["uid"] == example.id]
        assert example.texts == (own[0]["premise"], own[0]["hypothesis"])
        votes = Counter(own[0]["mnli_labels"])
        winners = [name for name, count in votes.items() if count > votes.total() / 2]
        assert example.label == (found.info.labels.index(winners[0]) if winners else None)
        if not winners:
            without += 1
            assert example.rationales is None
            continue
        agreeing = [row for row in own if [names[label] for label in row["labels"]] == [example.label]]
        spans = [
            tuple(tuple(map(tuple, row[f"{side}_spans"])) for side in ("premise", "hypothesis")) for row in agreeing
        ]
        assert list(example.rationales) == spans
        kept, of = kept + len(agreeing), of + len(own)
    notes = " ".join(found.info.notes_on("test"))
    assert f"{without} of {len(found.examples)} items have none" in notes
    assert f"only the {kept} of {of} highlights" in notes


@needs_data
@pytest.mark.parametrize(("part", "rows", "bare"), [("train", 5592, 327), ("trial", 501, 32), ("test", 1435, 283)])
def test_toxic_spans_have_no_label_and_may_be_empty(shared, part, rows, bare):
    examples = shared(f"toxic_spans:{part}").examples
    assert len(examples) == rows
    assert {example.label for example in examples} == {None}
    assert sum(example.rationales == (((),),) for example in examples) == bare
    for example, row in zip(examples, raw(SHARED / "toxic_spans" / f"{part}.jsonl"), strict=True):
        assert [list(span) for span in example.rationales[0][0]] == row["toxic_char_spans"]


@needs_data
@pytest.mark.parametrize(("part", "rows"), [("train", 5972), ("dev", 784), ("test", 1545)])
def test_trees_mark_the_words_of_the_sentences_polarity(shared, part, rows):
    examples = shared(f"sst_trees:{part}").examples
    assert len(examples) == rows
    lines = (SHARED / "sst_trees" / f"{part}.txt").read_text(encoding="utf-8").splitlines()
    for example, line in zip(examples, lines, strict=True):
        leaves = [piece.split() for piece in re.split(r"[()]+", line) if len(piece.split()) == 2]
        assert example.texts[0].split(" ") == [word for _, word in leaves]
        polarity = (line[1] > "2") - (line[1] < "2")
        assert example.label == {-1: 0, 0: None, 1: 1}[polarity]
        expected = [word for own, word in leaves if polarity * (int(own) - 2) > 0]
        marked = example.rationales[0][0] if example.rationales else ()
        assert [example.texts[0][start:end] for start, end in marked] == expected
        assert set(marked) <= set(words(example.texts[0]))


# --- what is refused -------------------------------------------------------------------------------------------

COLUMNS = "human_label\torig_text\tprocessed_text\tperception_scores\n"
NLI = {"uid": "a", "premise": "so it is", "hypothesis": "it is", "labels": ["true"], "mnli_labels": ["entailment"]}
DOCUMENT = [{"docid": "d", "sentences": ["One .", "Two ."]}]
QUESTION = {"id": "q", "docid": "d", "question": "Why ?", "answer": "So", "label": "True", "evidence_sentences": [1]}


def test_words_are_found_again_through_punctuation(local):
    row = '1.0\tBad. "Never" seen,worse! It.s\tbad never seenworse its\t-1 0 -0.5 0.3\n'
    (example,) = local("hummingbird", sentiment_tsv=COLUMNS + row).examples
    text = example.texts[0]
    assert [(text[start:end], weight) for start, end, weight in example.weights[0]] == [("Bad", 1), ("seen,worse", 0.5)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1.0\ta b\ta c\t-1 0\n", r"sentiment.tsv, line 2: word 'c' is not the next one in the text after 'a'"),
        ("1.0\ta x b\ta b\t-1 0\n", r"line 2: word 'b' is not the next one in the text after 'a'"),
        ("1.0\ta b\ta b\t-1\n", r"line 2: 1 perception scores for 2 words"),
        ("0.7\ta b\ta b\t1 1\n", r"line 2: not a row of 'hummingbird' \(KeyError: 0.7\)"),
        ("0.0\ta b\ta b\t2 1\n", r"line 2: example 'sentiment-0': the weight 2.0 of a mark is not in \(0, 1\]"),
    ],
)
def test_broken_rows_of_hummingbird(local, row, message):
    with pytest.raises(UserError, match=message):
        local("hummingbird", sentiment_tsv=COLUMNS + row)


def test_rows_of_one_item_are_brought_together(local):
    rows = [
        {**NLI, "premise_spans": [[0, 2]], "hypothesis_spans": []},
        {
            **NLI,
            "uid": "b",
            "mnli_labels": ["neutral", "entailment"],
            "premise_spans": [],
            "hypothesis_spans": [[0, 2]],
        },
        {**NLI, "labels": ["true", "either"], "premise_spans": [[3, 5]], "hypothesis_spans": []},
        {**NLI, "premise_spans": [], "hypothesis_spans": [[0, 5]]},
    ]
    first, second = local("livenli", livenli_jsonl=rows).examples
    assert (first.id, first.label, first.rationales) == ("a", 0, ((((0, 2),), ()), ((), ((0, 5),))))
    assert (second.id, second.label, second.rationales) == ("b", None, None)


def test_documents_are_joined_by_their_id(local):
    (example,) = local("eraser_multirc", test_jsonl=[QUESTION], docs_jsonl=DOCUMENT).examples
    assert example.texts == ("Why ? So", "One . Two .")
    assert example.rationales == (((), ((6, 11),)),)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"test_jsonl": [QUESTION]}, r"cannot read '.*docs.jsonl'"),
        (
            {"test_jsonl": [{**QUESTION, "docid": "e"}], "docs_jsonl": DOCUMENT},
            r"test.jsonl, line 1: .*docs.jsonl has no row with docid 'e'",
        ),
        (
            {"test_jsonl": [{**QUESTION, "evidence_sentences": [2]}], "docs_jsonl": DOCUMENT},
            r"line 1: not a row of 'eraser_multirc' \(IndexError",
        ),
        ({"test_jsonl": [QUESTION], "docs_jsonl": [{"docid": "d"}]}, r"test.jsonl: no column 'sentences'; it has: id"),
    ],
)
def test_broken_documents(local, files, message):
    with pytest.raises(UserError, match=message):
        local("eraser_multirc", **files)


def test_a_line_that_is_no_tree(local):
    with pytest.raises(UserError, match=r"test.txt, line 2: not a tree of labelled phrases: 'words'"):
        local("sst_trees", test_txt="(3 (3 fine))\nwords\n")
