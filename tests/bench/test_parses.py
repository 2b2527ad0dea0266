"""Dependency parses: CoNLL-U files good and bad, alignment with texts, and the parses of the embedded sentences."""

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrlab.bench import generator, generator_parses
from attrlab.bench.errors import UserError
from attrlab.bench.generator_parses import parse_of
from attrlab.bench.generator_words import GRAMMAR
from attrlab.bench.inputs import Example, words
from attrlab.bench.parses import ROOT, Node, Parse, attach, load_conllu


def row(number, form, head="_", relation="_", misc="_"):
    return "\t".join([str(number), form, "_", "_", "_", "_", str(head), relation, "_", misc])


def written(tmp_path, *lines):
    path = tmp_path / "parses.conllu"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def read(parse, text):
    """(word, its head's word or None, relation) of every word."""
    spans = [text[node.start : node.end] for node in parse.nodes]
    return [
        (span, None if node.head == ROOT else spans[node.head], node.relation)
        for span, node in zip(spans, parse.nodes, strict=True)
    ]


SENTENCE = (
    "# sent_id = 1",
    "# text = It wasn't  good, was it?",
    row(1, "It", 4, "nsubj"),
    row("2-3", "wasn't"),
    row(2, "was", 4, "cop"),
    row(3, "not", 4, "advmod"),
    row("3.1", "really", "_", "_"),
    row(4, "good", 0, "root", "SpaceAfter=No"),
    row(5, ",", 6, "punct"),
    row(6, "was", 4, "parataxis"),
    row(7, "it", 6, "nsubj", "Gloss=it|SpaceAfter=No"),
    row(8, "?", 4, "punct"),
)


def test_ranges_empty_nodes_and_repeated_words(tmp_path):
    ((text, parse),) = load_conllu(written(tmp_path, *SENTENCE)).items()
    assert text == "It wasn't  good, was it?"
    assert read(parse, text) == [
        ("It", "good", "nsubj"),
        ("wasn't", "good", "cop"),
        ("wasn't", "good", "advmod"),
        ("good", None, "root"),
        (",", "was", "punct"),
        ("was", "good", "parataxis"),
        ("it", "was", "nsubj"),
        ("?", "good", "punct"),
    ]
    assert parse.nodes[5].start == text.rindex("was")


def test_without_a_text_line_the_forms_make_the_text(tmp_path):
    ((text, parse),) = load_conllu(written(tmp_path, SENTENCE[0], *SENTENCE[2:])).items()
    assert text == "It wasn't good, was it?"
    assert [text[node.start : node.end] for node in parse.nodes][3:] == ["good", ",", "was", "it", "?"]


def test_sentences_are_texts_and_documents_join_them(tmp_path):
    two = [row(1, "Go", 0, "root"), "", "# text = Now !", row(1, "Now", 0, "root"), row(2, "!", 1, "punct")]
    assert list(load_conllu(written(tmp_path, *two))) == ["Go", "Now !"]
    third = ["", "# newdoc id = b", row(1, "Stop", 0, "root")]
    found = load_conllu(written(tmp_path, "# newdoc id = a", *two, *third))
    assert list(found) == ["Go Now !", "Stop"]
    assert read(found["Go Now !"], "Go Now !") == [("Go", None, "root"), ("Now", None, "root"), ("!", "Now", "punct")]


def test_bom_windows_line_ends_blanks_in_forms_and_no_last_line_end(tmp_path):
    path = tmp_path / "parses.conllu"
    lines = ["# text = 20 000 men", row(1, "20 000", 2, "nummod"), row(2, "men", 0, "root")]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    ((text, parse),) = load_conllu(path).items()
    assert read(parse, text) == [("20 000", "men", "nummod"), ("men", None, "root")]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([row(1, "a", 0, "root"), "2 b"], r"line 2: 1 columns; CoNLL-U has 10"),
        ([row("x", "a", 0, "root")], r"line 1: ID 'x' and FORM 'a'"),
        ([row(1, "", 0, "root")], r"line 1: ID '1' and FORM ''"),
        ([row(1, "a", 0, "root"), row(3, "b", 1, "dep")], r"line 2: ID 3; words are numbered"),
        ([row(2, "b", 0, "root")], r"line 1: ID 2; words are numbered"),
        ([row("1-2", "ab"), row(1, "a", 0, "root")], r"a range names words that are not there"),
        ([row("1-2", "ab"), row(2, "a", 0, "root")], r"line 2: ID 2; words are numbered"),
        ([row("2-1", "ab"), row(1, "a", 0, "root")], r"line 1: ID 2-1; words are numbered"),
        ([row(1, "a", 2, "dep")], r"line 1: HEAD '2' and DEPREL 'dep'"),
        ([row(1, "a", 1, "dep")], r"line 1: HEAD '1' and DEPREL 'dep'"),
        ([row(1, "a")], r"line 1: HEAD '_' and DEPREL '_'"),
        ([row(1, "a", -1, "root")], r"line 1: HEAD '-1'"),
        (["# text = a c", row(1, "a", 0, "root"), row(2, "b", 1, "dep")], r"line 3: form 'b' is not .*: ' c'"),
        (["# text = a b", row(1, "a", 0, "root")], r"line 2: the text goes on with 'b'"),
        (["# text = nothing", ""], r"no sentence"),
    ],
)
def test_bad_files_are_refused_with_their_line(tmp_path, lines, message):
    with pytest.raises(UserError, match=message):
        load_conllu(written(tmp_path, *lines))


def test_missing_and_undecodable_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        load_conllu(tmp_path / "none.conllu")
    (tmp_path / "latin.conllu").write_bytes(b"# text = \xe9\n")
    with pytest.raises(UserError, match="not UTF-8 at byte 9"):
        load_conllu(tmp_path / "latin.conllu")


BLANKS = st.text(" \t\u00a0", min_size=1, max_size=3)


@given(st.lists(st.tuples(st.text("ab.'", min_size=1, max_size=3), BLANKS, BLANKS), min_size=1, max_size=6))
def test_parses_move_to_texts_that_differ_in_white_space(parts):
    one = "".join(form + blank for form, blank, _ in parts)
    other = "".join(blank + form for form, _, blank in parts)
    spans = words(one)
    parse = Parse(tuple(Node(*span, index - 1, "dep") for index, span in enumerate(spans)))
    (found,) = attach([Example(id="0", texts=(other,), label=None)], {one: parse})
    assert read(found.parses[0], other) == read(parse, one)


def test_attach_leaves_what_it_does_not_know():
    parse = Parse((Node(0, 2, ROOT, "root"),))
    before = Example(id="0", texts=("ab", "c"), label=1, parses=(None, Parse((Node(0, 1, ROOT, "root"),))))
    (after,) = attach([before], {"ab": parse})
    assert after.parses == (parse, before.parses[1])
    assert (after.id, after.texts, after.label) == ("0", ("ab", "c"), 1)
    (without,) = attach([Example(id="0", texts=("x", "y"), label=None)], {"ab": parse})
    assert without.parses == (None, None)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        (((0, 0, ROOT, "root"),), r"span \[0, 0\)"),
        (((0, 1, 0, "root"),), "word 0 depends on word 0"),
        (((0, 1, 1, "root"),), "word 0 depends on word 1"),
        (((0, 1, -2, "root"),), "word 0 depends on word -2"),
    ],
)
def test_impossible_parses_are_refused(nodes, message):
    with pytest.raises(UserError, match=message):
        Parse(tuple(Node(*node) for node in nodes))


def test_parses_must_fit_their_example():
    parse = Parse((Node(0, 3, ROOT, "root"),))
    with pytest.raises(UserError, match="1 parses for 2 texts"):
        Example(id="0", texts=("abc", "d"), label=None, parses=(parse,))
    with pytest.raises(UserError, match=r"\[0, 3\) ends outside the text of 2"):
        Example(id="0", texts=("ab",), label=None, parses=(parse,))


TASKS = ("lexicon", "shortcut", "and_pair", "pairs")


@pytest.mark.parametrize("task", TASKS)
def test_every_embedded_sentence_is_a_tree_over_all_its_words(task):
    for example in getattr(generator, task)("dev") + getattr(generator, task)("test"):
        for text, parse in zip(example.texts, example.parses, strict=True):
            assert [text[node.start : node.end] for node in parse.nodes] == re.findall(r"[\w'-]+", text)
            heads = [node.head for node in parse.nodes]
            assert heads.count(ROOT) == 1
            assert [node.relation for node in parse.nodes if node.head == ROOT] == ["root"]
            for at in range(len(heads)):
                for _ in heads:
                    at = heads[at] if at != ROOT else ROOT  # noqa: PLW2901 - climbing
                assert at == ROOT, text


def test_no_word_of_the_grammar_has_two_classes():
    seen = Counter(word.lower() for listed in generator_parses._CLASSES.values() for word in set(listed))
    assert [word for word, times in seen.items() if times > 1] == []


OPINION = r"(?:(?:not|never|hardly|very|truly|utterly) )?([\w-]+)"


@pytest.mark.parametrize("task", ["lexicon", "shortcut", "and_pair"])
def test_subjects_objects_and_modifiers_are_those_of_the_frames(task):
    """The plain frames, read by patterns from the text without planted words."""
    planted = "|".join(generator_parses._CLASSES["planted"])
    counted = Counter()
    for example in getattr(generator, task)("dev"):
        text = re.sub(rf" ({planted})\b", "", example.texts[0], flags=re.IGNORECASE)
        arcs = set(read(parse_of(text), text))
        for noun, verb, opinion in re.findall(rf"(?<!of t)he ([\w-]+) (felt|seemed|remained|was|is) {OPINION}", text):
            head = opinion if verb in ("was", "is") else verb
            if noun != "hall":
                counted["nsubj"] += 1
                assert (noun, head, "nsubj") in arcs, text
        for adjective, noun, verb in re.findall(r"he (?:\w+ )?([\w-]+) ([\w-]+) (fills|takes|comes)", text):
            counted["amod"] += 1
            assert {(adjective, noun, "amod"), (noun, verb, "nsubj")} <= arcs, text
        for verb, noun in re.findall(r"(found|called) (?:the )?([\w-]+)", text):
            counted["obj"] += 1
            assert (noun, verb, "obj") in arcs, text
        for adverb, opinion in re.findall(r"\b(not|never|hardly|very|truly|utterly) ([\w-]+)", text):
            counted["advmod"] += 1
            assert (adverb, opinion, "advmod") in arcs, text
    assert min(counted.values()) > 40
    assert len(counted) == 4


QUESTION = rf"(\w+) was the (?:([\w-]+) )?([\w-]+) ({'|'.join(GRAMMAR['done'])})(?: by the crew| again| that year)?\?"
STATEMENT = r"(?:^The ([\w-]+).*?|, ([\w'-]+)) (mentions|names|says|gives|lists|underlines) ([\w-]+)"


@pytest.mark.parametrize("part", ["dev", "test"])
def test_questions_and_statements_are_those_of_the_frames(part):
    for example in generator.pairs(part):
        question, statement = (
            set(read(parse, text)) for parse, text in zip(example.parses, example.texts, strict=True)
        )
        found = re.fullmatch(QUESTION, example.texts[0])
        ask, kind, thing, done = found.groups()
        assert {(ask, done, "advmod"), (thing, done, "nsubj:pass")} <= question
        assert kind is None or (kind, thing, "amod") in question
        found = re.search(STATEMENT, example.texts[1])
        subject, verb, answer = found[1] or found[2], found[3], found[4]
        assert {(subject, verb, "nsubj"), (answer, verb, "obj")} <= statement, example.texts[1]


@pytest.mark.parametrize(
    ("text", "arcs"),
    [
        (
            "Well, my brother found the plot of the film not dull.",
            "well>found:discourse my>brother:nmod:poss brother>found:nsubj found>:root the>plot:det plot>found:obj "
            "of>film:case the>film:det film>plot:nmod not>dull:advmod dull>found:xcomp",
        ),
        (
            'The acting of "The Sorrow Club" was no longer superb last week',
            "the>acting:det acting>superb:nsubj of>club:case the>club:det sorrow>club:compound club>acting:nmod "
            "was>superb:cop no>longer:advmod longer>superb:advmod superb>:root last>week:amod week>superb:obl:tmod",
        ),
        (
            'The ending of "War and Sunshine" felt bland, but the witty score takes no time, said Kofi.',
            "the>ending:det ending>felt:nsubj of>war:case war>ending:nmod and>sunshine:cc sunshine>war:conj felt>:root "
            "bland>felt:xcomp but>takes:cc the>score:det witty>score:amod score>takes:nsubj takes>felt:conj "
            "no>time:det time>takes:obj said>felt:parataxis kofi>said:nsubj",
        ),
        (
            "We saw it amber on Tuesday, and the not dull story comes from Porto; nobody lantern gravel sat upstairs",
            "we>saw:nsubj saw>:root it>saw:obj amber>it:dep on>tuesday:case tuesday>saw:obl:tmod and>comes:cc "
            "the>story:det not>dull:advmod dull>story:amod story>comes:nsubj comes>saw:conj from>porto:case "
            "porto>comes:obl nobody>sat:nsubj lantern>nobody:dep gravel>lantern:dep sat>saw:parataxis "
            "upstairs>sat:advmod",
        ),
        (
            "Yuki called it bad, and Leila took the tram",
            "yuki>called:nsubj called>:root it>called:obj bad>called:xcomp and>took:cc leila>took:nsubj "
            "took>called:conj the>tram:det tram>took:obj",
        ),
        (
            "About the mill, Maria lists rust and noon, but not the price.",
            "about>mill:case the>mill:det mill>lists:obl maria>lists:nsubj lists>:root rust>lists:obj and>noon:cc "
            "noon>rust:conj but>price:cc not>price:advmod the>price:det price>rust:conj",
        ),
        (
            "The note by Kofi about the gate says Oslo and dawn twice!",
            "the>note:det note>says:nsubj by>kofi:case kofi>note:nmod about>gate:case the>gate:det gate>note:nmod "
            "says>:root oslo>says:obj and>dawn:cc dawn>oslo:conj twice>says:advmod",
        ),
    ],
)
def test_sentences_parsed_by_hand(text, arcs):
    found = [f"{word}>{head or ''}:{relation}".lower() for word, head, relation in read(parse_of(text), text)]
    assert found == arcs.split()


@pytest.mark.parametrize("text", ["", "The plot the plot.", "Colourless green ideas sleep.", "Dull was", "The film"])
def test_what_the_grammar_does_not_hold_is_refused(text):
    with pytest.raises(ValueError, match="no sentence of the grammar"):
        parse_of(text)
