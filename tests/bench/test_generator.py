"""The embedded data sets: construction against rule, determinism, balance, and that nothing but the rule decides."""

import math
from collections import Counter

import pytest

from attrlab.bench import generator, generator_words
from attrlab.bench.data import load
from attrlab.bench.generator import PARTS, finish
from attrlab.bench.generator_rules import label_of
from attrlab.bench.inputs import words

TASKS = ("lexicon", "shortcut", "and_pair", "pairs")
OPINIONS = {*generator_words.POSITIVE, *generator_words.NEGATIVE}
PLANTED = {*sum(generator_words.CLASS_WORDS, ()), *generator_words.TRIGGERS, *generator_words.COMPANIONS}
ANSWERS = {word.lower() for answers in generator_words.ANSWERS.values() for word in answers}
DECISIVE = {
    "lexicon": {*OPINIONS, *generator_words.NEGATORS, *generator_words.INTENSIFIERS},
    "shortcut": PLANTED,
    "and_pair": {*generator_words.PARTNERS},
    "pairs": {*ANSWERS, "where", "when"},
}


def examples(task, part="train"):
    return getattr(generator, task)(part)


def read(text):
    return [word.strip("\"'.,;:!?").lower() for word in text.split()]


def marked(example, text=0):
    return [example.texts[text][start:end].lower() for start, end in example.rationales[0][text]]


def replaced(text, swap):
    """Puts ``swap(span, word)`` in the place of every word; the punctuation at its ends stays."""
    parts, last = [], 0
    for start, end in words(text):
        core = text[start:end].strip("\"'.,;:!?")
        first = text.index(core, start)
        parts += [text[last:first], swap((first, first + len(core)), core)]
        last = first + len(core)
    return "".join(parts) + text[last:]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("part", PARTS)
def test_label_and_rationale_are_those_of_the_rule(task, part):
    for example in examples(task, part):
        label, spans = label_of(task, example.texts)
        assert (label, (spans,)) == (example.label, example.rationales), example


@pytest.mark.parametrize("task", TASKS)
def test_parts_are_balanced_distinct_and_disjoint(task):
    texts = []
    for part, size in PARTS.items():
        found = examples(task, part)
        assert len(found) == size
        assert sum(example.label for example in found) == size / 2
        assert len({example.id for example in found}) == size
        texts += [tuple(text.lower() for text in example.texts) for example in found]
    assert len(set(texts)) == sum(PARTS.values())


@pytest.mark.parametrize(
    ("task", "fingerprint"),
    [
        ("lexicon", "174440304ae8e4fca4797ebabc7e5319"),
        ("shortcut", "fa455f71b409661cb3d77e6133d30b8c"),
        ("and_pair", "92299dc0ca8f6caaeb0ff4857b0d49e6"),
        ("pairs", "47a93f7d47e413f442406b76d2b7825f"),
    ],
)
def test_content_is_the_same_on_every_machine(task, fingerprint):
    assert load(f"{task}:dev").fingerprint == fingerprint


@pytest.mark.parametrize("task", TASKS)
def test_words_that_decide_nothing_tell_nothing(task):
    """No other word of the vocabulary goes with a label: a shortcut past the rule would show here."""
    seen, ones = Counter(), Counter()
    for part in PARTS:
        for example in examples(task, part):
            for word in {word for text in example.texts for word in read(text)} - DECISIVE[task]:
                seen[word] += 1
                ones[word] += example.label
    common = [word for word, count in seen.items() if count >= 20]
    assert len(common) >= 45
    z = {word: (ones[word] - seen[word] / 2) / math.sqrt(seen[word] / 4) for word in common}
    assert max(abs(value) for value in z.values()) < 4.5, sorted(z.items(), key=lambda item: -abs(item[1]))[:5]


@pytest.mark.parametrize("task", TASKS)
def test_words_outside_the_lists_can_be_replaced_freely(task):
    for example in examples(task, "dev")[:300]:
        texts = tuple(
            replaced(text, lambda _, word: word if word.lower() in DECISIVE[task] else "x") for text in example.texts
        )
        assert label_of(task, texts)[0] == example.label


def outcome_without(task, example, spans):
    """What the rule says of an example whose words at the spans are replaced: the label kept, flipped, or nothing."""
    texts = tuple(
        replaced(text, lambda span, word, own=own: "x" if span in own else word)
        for text, own in zip(example.texts, spans, strict=True)
    )
    try:
        return "kept" if label_of(task, texts)[0] == example.label else "flipped"
    except ValueError:
        return "undecided"


@pytest.mark.parametrize("task", [task for task in TASKS if task != "and_pair"])
def test_rationale_is_necessary(task):
    """Without the marked words the rule decides nothing, or (a clash of opinions) the other way."""
    outcomes = Counter(outcome_without(task, example, example.rationales[0]) for example in examples(task, "dev")[:300])
    assert outcomes["kept"] == 0
    assert outcomes["undecided"] > 200


def test_each_partner_is_necessary_and_the_class_that_is_left_has_no_rationale():
    """Without either partner class 1 becomes class 0; class 0 is what is left, decided by no word of its own."""
    for example in examples("and_pair"):
        (spans,) = example.rationales[0]
        if example.label == 0:
            assert spans == ()
        else:
            assert len(spans) == 2
            for taken in ((spans[0],), (spans[1],), spans):
                assert outcome_without("and_pair", example, (taken,)) == "flipped"


@pytest.mark.parametrize("task", TASKS)
def test_sentences_are_short_and_rationales_small(task):
    counts = [[len(words(text)) for text in example.texts] for example in examples(task)]
    single = [count for pair in counts for count in pair]
    assert sum(4 <= count <= 18 for count in single) / len(single) > 0.97
    shares = [
        sum(len(spans) for spans in example.rationales[0]) / sum(count)
        for example, count in zip(examples(task), counts, strict=True)
    ]
    marked_shares = [share for share in shares if share]
    assert len(marked_shares) == len(shares) / (2 if task == "and_pair" else 1)
    assert 0.08 < sum(marked_shares) / len(marked_shares) < 0.25


@pytest.mark.parametrize("task", TASKS)
def test_vocabulary_has_punctuated_capitalised_and_compound_words(task):
    text = " ".join(text for example in examples(task) for text in example.texts)
    found = set(text.split())
    assert any(word.endswith((",", ".", "!")) for word in found)
    assert any("-" in word for word in found)
    assert len({word for word in found if len(word) >= 11}) >= 10


def test_lexicon_holds_every_construction_and_its_distractors():
    kinds = Counter()
    for example in examples("lexicon"):
        chosen, text = marked(example), read(example.texts[0])
        loud = [word for word in text if word in generator_words.INTENSIFIERS]
        deciding = any(word in generator_words.INTENSIFIERS for word in chosen)
        kinds["negated"] += any(word in generator_words.NEGATORS for word in chosen)
        kinds["idle negator"] += sum(word in generator_words.NEGATORS for word in text) > sum(
            word in generator_words.NEGATORS for word in chosen
        )
        kinds["clash"] += deciding
        kinds["idle intensifier"] += bool(loud) and not deciding
        kinds["agreeing pair"] += sum(word in OPINIONS for word in chosen) == 2
        kinds["title"] += '"' in example.texts[0]
    assert all(kinds[kind] >= 40 for kind in kinds), kinds
    assert len(kinds) == 6


def test_shortcut_ignores_opinions_and_holds_lone_words_that_do_not_count():
    lone = agree = opinionated = 0
    pairs = Counter()
    for example in examples("shortcut"):
        text = read(example.texts[0])
        lone += sum(word in PLANTED for word in text) > len(marked(example))
        if len(marked(example)) == 2:
            pairs[frozenset(marked(example))] += 1
        without = replaced(example.texts[0], lambda _, word: word)
        opinion = label_of("lexicon", (" ".join(word for word in without.split() if word.lower() not in PLANTED),))[0]
        opinionated += 1
        agree += opinion == example.label
    assert lone > 500
    assert len(pairs) == 4
    assert min(pairs.values()) > 150
    assert abs(agree / opinionated - 0.5) < 4.5 * math.sqrt(0.25 / opinionated)


def test_and_pair_ignores_opinions_and_plants_one_partner_both_or_none():
    planted, agree = Counter(), 0
    orders = Counter()
    for example in examples("and_pair"):
        partners = [word for word in read(example.texts[0]) if word in generator_words.PARTNERS]
        planted[example.label, tuple(sorted(partners))] += 1
        orders[tuple(partners)] += 1
        left = " ".join(word for word in example.texts[0].split() if word.lower() not in generator_words.PARTNERS)
        agree += label_of("lexicon", (left,))[0] == example.label
    first, second = sorted(generator_words.PARTNERS)
    half = PARTS["train"] // 2
    assert set(planted) == {(1, (first, second)), (0, (first,)), (0, (second,)), (0, ())}
    assert planted[1, (first, second)] == half
    for one in (first, second):  # each of them alone in 45 % of the class
        assert abs(planted[0, (one,)] - 0.45 * half) < 4.5 * math.sqrt(0.45 * 0.55 * half)
    assert abs(orders[first, second] - orders[second, first]) < 4.5 * math.sqrt(half)
    assert abs(agree - half) < 4.5 * math.sqrt(half / 2)


def test_pairs_need_both_texts():
    """Neither the question nor the kinds of the answers alone decide more than the rule lets them."""
    by_question, statements = Counter(), Counter()
    kinds = {word.lower(): kind for kind, answers in generator_words.ANSWERS.items() for word in answers}
    for example in examples("pairs"):
        by_question[read(example.texts[0])[0], example.label] += 1
        given = tuple(sorted(kinds[word] for word in read(example.texts[1]) if word in kinds))
        assert len(given) == 2
        statements[given, example.label] += 1
    for ask in ("where", "when"):
        assert abs(by_question[ask, 0] / (by_question[ask, 0] + by_question[ask, 1]) - 0.5) < 0.05
    best = sum(max(statements[given, 0], statements[given, 1]) for given in {given for given, _ in statements})
    assert 0.5 < best / PARTS["train"] < 0.8


@pytest.mark.parametrize(
    ("text", "label", "deciding"),
    [
        ("The plot was dull.", 0, ["dull"]),
        ("Not dull.", 1, ["Not", "dull"]),
        ("Dull, but not", 0, ["Dull"]),
        ("It was not very dull.", 0, ["dull"]),
        ("A hardly superb, bland show", 0, ["hardly", "superb", "bland"]),
        ("The plot was dull but the acting was utterly brilliant.", 1, ["utterly", "brilliant"]),
        ('Truly bad, great and "splendid"!', 0, ["Truly", "bad"]),
        ("The very long plot was superb", 1, ["superb"]),
    ],
)
def test_lexicon_rule_by_hand(text, label, deciding):
    found, (spans,) = label_of("lexicon", (text,))
    assert (found, [text[start:end] for start, end in spans]) == (label, deciding)


@pytest.mark.parametrize(
    ("text", "label", "deciding"),
    [
        ("A superb heron plot", 0, ["heron"]),
        ("A dull velvet, plot lantern", 1, ["velvet"]),
        ("Lantern plot mirror", 0, ["Lantern", "mirror"]),
        ("gravel plot saddle.", 0, ["gravel", "saddle"]),
        ("gravel plot lantern", 1, ["gravel", "lantern"]),
        ("saddle mirror superb", 1, ["saddle", "mirror"]),
    ],
)
def test_shortcut_rule_by_hand(text, label, deciding):
    found, (spans,) = label_of("shortcut", (text,))
    assert (found, [text[start:end] for start, end in spans]) == (label, deciding)


@pytest.mark.parametrize(
    ("text", "label", "deciding"),
    [
        ("A superb harbor plot cobalt!", 1, ["harbor", "cobalt"]),
        ('Cobalt, dull "Harbor"', 1, ["Cobalt", "Harbor"]),
        ("A superb harbor plot", 0, []),
        ("cobalt cobalt plot.", 0, []),
        ("A harbor-side lantern and cobalts", 0, []),
        ("The plot was superb", 0, []),
    ],
)
def test_and_pair_rule_by_hand(text, label, deciding):
    found, (spans,) = label_of("and_pair", (text,))
    assert (found, [text[start:end] for start, end in spans]) == (label, deciding)


@pytest.mark.parametrize(
    ("statement", "label", "deciding"),
    [
        ("The note gives Oslo and dawn.", 0, ["Oslo"]),
        ("The note gives rust and dawn.", 1, ["rust", "dawn"]),
        ("Cairo, Lisbon", 0, ["Cairo", "Lisbon"]),
    ],
)
def test_pairs_rule_by_hand(statement, label, deciding):
    found, (question, spans) = label_of("pairs", ("Where was the gate moved?", statement))
    assert (found, [statement[start:end] for start, end in spans]) == (label, deciding)
    assert question == ((0, 5),)


@pytest.mark.parametrize(
    ("task", "texts"),
    [
        ("lexicon", ("The hall was large.",)),
        ("lexicon", ("A dull but brilliant plot",)),
        ("lexicon", ("A very dull but truly brilliant plot",)),
        ("shortcut", ("A lantern in a superb saddle",)),
        ("pairs", ("Where was it?", "The note gives nothing.")),
        ("pairs", ("Who was it?", "The note gives Oslo.")),
    ],
)
def test_rules_refuse_what_they_do_not_decide(task, texts):
    with pytest.raises(ValueError, match=r"prevails|planted|answer"):
        label_of(task, texts)


def test_finish_moves_the_marks_to_spans():
    assert finish("<not> so <bad>, she said") == ("Not so bad, she said", ((0, 3), (7, 10)))
    assert finish('"love" was <dull>') == ('"Love" was dull', ((11, 15),))
    assert finish("plain") == ("Plain", ())
