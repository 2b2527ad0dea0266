"""The embedded data sets: construction against rule, determinism, balance, and that nothing but the rule decides."""

import math
from collections import Counter

import pytest

from attrlab.bench import generator, generator_words
from attrlab.bench.data import DATASETS, load
from attrlab.bench.generator import PARTS, finish
from attrlab.bench.generator_rules import label_of
from attrlab.bench.inputs import words

TASKS = tuple(generator.BUILDERS)
SENTENCES = tuple(task for task in TASKS if task not in generator.SYMBOLS)
WITHOUT_CLASS_WORDS = ("keyword", "negation", "position", "bag_of_words")
OPINIONS = {*generator_words.POSITIVE, *generator_words.NEGATIVE}
PLANTED = {*sum(generator_words.CLASS_WORDS, ()), *generator_words.TRIGGERS, *generator_words.COMPANIONS}
ANSWERS = {word.lower() for answers in generator_words.ANSWERS.values() for word in answers}
KEYWORDS = {*sum(generator_words.KEYWORDS, ())}
DECISIVE = {
    "lexicon": {*OPINIONS, *generator_words.NEGATORS, *generator_words.INTENSIFIERS},
    "keyword": KEYWORDS,
    "negation": {*KEYWORDS, generator_words.DENIER},
    "position": KEYWORDS,
    "bag_of_words": {*generator_words.WEIGHTS},
    "spurious": {*OPINIONS, *generator_words.NEGATORS, *generator_words.INTENSIFIERS, *generator_words.CUES},
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
        counts = Counter(example.label for example in found)
        assert set(counts) == set(range(len(DATASETS[task].labels)))
        assert max(counts.values()) - min(counts.values()) <= 1
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
        ("keyword", "9b7c1ade258ad41f581eb257f48057a1"),
        ("negation", "5e2ec1713d011f4161f3e046dce3f16b"),
        ("position", "e355fbafe2410039700c084c1142051a"),
        ("bag_of_words", "cab8dfd6fac53b395969264dc432d232"),
        ("spurious", "c729f237cf24141711949cbfdb978e5e"),
        ("histogram", "a17836a463e82eee01dad99af6d79a03"),
        ("dyck", "af7ed4d81a5da2fca51fa19245fc4040"),
        ("pointer", "938bb3ac7d3e0ef2592d73d367c1f94d"),
    ],
)
def test_content_is_the_same_on_every_machine(task, fingerprint):
    assert load(f"{task}:dev").fingerprint == fingerprint


@pytest.mark.parametrize("task", SENTENCES)
def test_words_that_decide_nothing_tell_nothing(task):
    """No other word of the vocabulary goes with a label: a shortcut past the rule would show here."""
    labels = len(DATASETS[task].labels)
    seen, with_label = Counter(), Counter()
    for part in PARTS:
        for example in examples(task, part):
            for word in {word for text in example.texts for word in read(text)} - DECISIVE[task]:
                seen[word] += 1
                with_label[word, example.label] += 1
    common = [word for word, count in seen.items() if count >= 20]
    assert len(common) >= 45
    z = {
        (word, label): (with_label[word, label] - seen[word] / labels)
        / math.sqrt(seen[word] * (labels - 1) / labels**2)
        for word in common
        for label in range(labels)
    }
    assert max(abs(value) for value in z.values()) < 4.5, sorted(z.items(), key=lambda item: -abs(item[1]))[:5]


@pytest.mark.parametrize("task", SENTENCES)
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


@pytest.mark.parametrize("task", ["lexicon", "shortcut", "pairs", "pointer"])
def test_rationale_is_necessary(task):
    """Without the marked words the rule decides nothing, or (a clash of opinions) the other way."""
    outcomes = Counter(outcome_without(task, example, example.rationales[0]) for example in examples(task, "dev")[:300])
    assert outcomes["kept"] == 0
    assert outcomes["undecided"] > 200


@pytest.mark.parametrize("task", WITHOUT_CLASS_WORDS)
def test_without_the_marked_words_the_label_is_that_nothing_is_planted(task):
    for example in examples(task, "dev")[:300]:
        (spans,) = example.rationales[0]
        assert bool(spans) == (example.label != 2)
        assert outcome_without(task, example, (spans,)) == ("flipped" if spans else "kept")


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


@pytest.mark.parametrize("task", SENTENCES)
def test_sentences_are_short_and_rationales_small(task):
    counts = [[len(words(text)) for text in example.texts] for example in examples(task)]
    single = [count for pair in counts for count in pair]
    assert sum(4 <= count <= 18 for count in single) / len(single) > 0.97
    shares = [
        sum(len(spans) for spans in example.rationales[0]) / sum(count)
        for example, count in zip(examples(task), counts, strict=True)
    ]
    marked_shares = [share for share in shares if share]
    unmarked = 1 / 2 if task == "and_pair" else 1 / 3 if task in WITHOUT_CLASS_WORDS else 0
    assert len(marked_shares) == round(len(shares) * (1 - unmarked))
    assert 0.07 < sum(marked_shares) / len(marked_shares) < 0.3


@pytest.mark.parametrize("task", SENTENCES)
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
    ("task", "text", "label", "deciding"),
    [
        ("keyword", "A superb heron plot", 0, ["heron"]),
        ("keyword", "Saffron, dull", 1, ["Saffron"]),
        ("keyword", "A superb plot", 2, []),
        ("negation", "The without amber plot", 1, ["without", "amber"]),
        ("negation", "Amber without plot", 0, ["Amber"]),
        ("negation", "Not without amber", 1, ["without", "amber"]),
        ("negation", "not velvet, without", 1, ["velvet"]),
        ("negation", "without plot", 2, []),
        ("position", "a amber b velvet", 0, ["amber"]),
        ("position", "a b velvet d e", 1, ["velvet"]),  # the middle one of five words
        ("position", "a b velvet d", 2, []),
        ("bag_of_words", "amber falcon plot", 1, ["amber", "falcon"]),  # 3 - 2
        ("bag_of_words", "walnut falcon copper orchid", 0, ["walnut", "falcon", "copper", "orchid"]),  # 1 - 2 + 1 - 1
        ("bag_of_words", "heron plot", 2, []),  # a class word without a weight
        ("spurious", "A dull thistle plot", 0, ["thistle"]),
        ("spurious", "A not pebble dull plot", 1, ["pebble"]),
        ("histogram", "amber heron amber heron heron", 1, ["amber", "amber"]),
        ("dyck", "if do od", 0, ["if"]),
        ("dyck", "if fi do if fi", 1, ["do"]),
        ("dyck", "do if", 0, ["if"]),
        ("pointer", "third amber velvet amber", 1, ["third", "velvet"]),
    ],
)
def test_rules_of_planted_words_and_symbols_by_hand(task, text, label, deciding):
    found, (spans,) = label_of(task, (text,))
    assert (found, [text[start:end] for start, end in spans]) == (label, deciding)


def test_position_and_negation_hold_words_that_do_not_count():
    for example in examples("position", "dev"):
        places = [i for i, word in enumerate(read(example.texts[0])) if word in KEYWORDS]
        n = len(example.texts[0].split())
        assert [2 * i < n for i in places] == ([True, False] if example.label < 2 else [False])
        assert all(abs(i + 0.5 - n / 2) > 0.1 * n for i in places)  # none near the border
    idle = sum("without" in set(read(example.texts[0])) - set(marked(example)) for example in examples("negation"))
    denied = sum("without" in marked(example) for example in examples("negation"))
    assert idle > 800
    assert denied > 1500


def test_cue_agrees_with_the_label_as_often_as_stated_in_every_part():
    for part, size in PARTS.items():
        agreed = sum(marked(example) == [generator_words.CUES[example.label]] for example in examples("spurious", part))
        share = generator_words.CUE_AGREES
        assert abs(agreed / size - share) < 4.5 * math.sqrt(share * (1 - share) / size)


def test_weights_of_both_signs_meet_and_no_word_alone_decides():
    mixed = 0
    for example in examples("bag_of_words"):
        weights = [generator_words.WEIGHTS[word] for word in marked(example)]
        assert len(weights) in ((2, 3, 4) if example.label < 2 else (0,))
        mixed += len({weight > 0 for weight in weights}) == 2
    assert mixed > 3000
    assert len(generator_words.WEIGHTS) <= 10


def test_most_brackets_have_to_be_looked_for_and_none_is_too_deep():
    closed, depths = 0, Counter()
    for example in examples("dyck"):
        depth = deepest = 0
        for word in example.texts[0].split():
            depth += 1 if word in ("if", "do") else -1
            deepest = max(deepest, depth)
        depths[deepest] += 1
        closed += example.texts[0].endswith(("fi", "od"))
    assert set(depths) <= {1, 2, generator_words.DEPTH}
    assert closed / len(examples("dyck")) > 0.6


@pytest.mark.parametrize(
    ("task", "texts"),
    [
        ("keyword", ("amber velvet",)),
        ("bag_of_words", ("walnut orchid",)),
        ("dyck", ("if od",)),
        ("dyck", ("if fi",)),
        ("dyck", ("fi",)),
        ("pointer", ("amber velvet",)),
        ("pointer", ("third velvet",)),
        ("pointer", ("second plot",)),
        ("lexicon", ("The hall was large.",)),
        ("lexicon", ("A dull but brilliant plot",)),
        ("lexicon", ("A very dull but truly brilliant plot",)),
        ("shortcut", ("A lantern in a superb saddle",)),
        ("pairs", ("Where was it?", "The note gives nothing.")),
        ("pairs", ("Who was it?", "The note gives Oslo.")),
    ],
)
def test_rules_refuse_what_they_do_not_decide(task, texts):
    with pytest.raises(ValueError, match=r"prevails|planted|answer|match|open|points"):
        label_of(task, texts)


def test_finish_moves_the_marks_to_spans():
    assert finish("<not> so <bad>, she said") == ("Not so bad, she said", ((0, 3), (7, 10)))
    assert finish('"love" was <dull>') == ('"Love" was dull', ((11, 15),))
    assert finish("plain") == ("Plain", ())
