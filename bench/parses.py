"""Dependency parses: who depends on whom in a text, read from CoNLL-U files of any parser.

Words are matched with texts by the characters they stand for, never by their spelling alone or by their number:
white space may differ, everything else must be the same.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from attrlab.bench.errors import UserError

if TYPE_CHECKING:
    from attrlab.bench.inputs import Example

ROOT = -1
"""Head of a word that depends on no other."""

COLUMNS = 10
"""Columns of a line of CoNLL-U: ID, FORM, LEMMA, UPOS, XPOS, FEATS, HEAD, DEPREL, DEPS, MISC."""


class Node(NamedTuple):
    """A word of a parse.

    Attributes:
        start: First character in the text.
        end: One past its last character.
        head: Index of the word it depends on, or ``ROOT``.
        relation: Universal Dependencies relation, with its subtype if it has one (``nsubj:pass``).
    """

    start: int
    end: int
    head: int
    relation: str


@dataclass(frozen=True, slots=True)
class Parse:
    """The dependency parse of one text, of one or several sentences.

    Attributes:
        nodes: The words in the order of the text. Words that the text writes as one (``don't``) share a span.

    Raises:
        UserError: If a word depends on itself or on one that is not there, or has no character.
    """

    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        for index, node in enumerate(self.nodes):
            if not 0 <= node.start < node.end:
                raise UserError(f"parse: word {index} has the span [{node.start}, {node.end}); give 0 <= start < end")
            if not ROOT <= node.head < len(self.nodes) or node.head == index:
                raise UserError(
                    f"parse: word {index} depends on word {node.head}; give another word's index below "
                    f"{len(self.nodes)}, or {ROOT} for a root"
                )


def check_parses(texts: tuple[str, ...], parses: "tuple[Parse | None, ...] | None") -> None:
    """Refuses parses that do not belong to the texts.

    Raises:
        UserError: If their number is not that of the texts, or a word lies outside its text.
    """
    if parses is None:
        return
    if len(parses) != len(texts):
        raise UserError(f"{len(parses)} parses for {len(texts)} texts; give one per text, or None in its place")
    for text, parse in zip(texts, parses, strict=True):
        for node in parse.nodes if parse else ():
            if node.end > len(text):
                raise UserError(f"parse: the span [{node.start}, {node.end}) ends outside the text of {len(text)}")


def load_conllu(path: Path) -> dict[str, Parse]:
    """Returns the parses of a CoNLL-U file by the text they belong to.

    A sentence is a text of its own unless the file has ``# newdoc`` lines: then a document is one text, its sentences
    joined by one blank. The text is what ``# text =`` says, else the forms, with blanks where no ``SpaceAfter=No``
    is. The words of a multiword range (``1-2``) get the span of the range; empty nodes (``1.1``) are left out. Of
    parses of the same text the first counts.

    Raises:
        UserError: If the file is missing, not UTF-8 or not CoNLL-U, or a form is not where the text has it; with line.
    """
    try:
        content = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"no such file: {str(path)!r}; give a file in CoNLL-U format") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    found: dict[str, Parse] = {}
    for document in _documents(path, content.split("\n")):
        text, parse = _joined(document)
        found.setdefault(text, parse)
    if not found:
        raise UserError(f"{path}: no sentence; a sentence is a block of lines with {COLUMNS} columns")
    return found


def attach(examples: "Iterable[Example]", parses: Mapping[str, Parse]) -> "tuple[Example, ...]":
    """Returns the examples with the parses of their texts; what they had before stays where none is found.

    Args:
        examples: The examples.
        parses: By text, as :func:`load_conllu` gives them; texts are the same if all but their white space is.
    """
    known = {_letters(text): (text, parse) for text, parse in parses.items()}
    return tuple(
        replace(
            example,
            parses=tuple(
                _moved(text, *known[_letters(text)]) if _letters(text) in known else before
                for text, before in zip(example.texts, example.parses or (None,) * len(example.texts), strict=True)
            ),
        )
        for example in examples
    )


def _letters(text: str) -> str:
    return "".join(text.split())


def _moved(text: str, source: str, parse: Parse) -> Parse:
    """Returns a parse of ``source`` as one of ``text``, which differs in white space only."""
    if text == source:
        return parse
    places = [place for place, char in enumerate(text) if not char.isspace()]
    rank = [len(_letters(source[:place])) for place in range(len(source) + 1)]
    return Parse(
        tuple(node._replace(start=places[rank[node.start]], end=places[rank[node.end] - 1] + 1) for node in parse.nodes)
    )


class _Line(NamedTuple):
    """A line of ten columns and where it stands (for messages)."""

    place: str
    columns: list[str]


class _Sentence(NamedTuple):
    text: str
    nodes: tuple[Node, ...]


def _documents(path: Path, lines: Iterable[str]) -> Iterator[list[_Sentence]]:
    """Yields the sentences of each text."""
    document: list[_Sentence] = []
    comments: list[str] = []
    rows: list[_Line] = []
    documents = False
    for number, raw in enumerate([*lines, ""], 1):
        line, place = raw.rstrip("\r"), f"{path}, line {number}"
        if line.startswith("#"):
            comments.append(line)
        elif line.strip():
            rows.append(_Line(place, _columns(place, line)))
        elif rows:
            starts = any(re.match(r"#\s*newdoc\b", comment) for comment in comments)
            if document and (starts or not documents):
                yield document
                document = []
            documents |= starts
            document.append(_sentence(comments, rows))
            comments, rows = [], []
    if document:
        yield document


def _columns(place: str, line: str) -> list[str]:
    columns = line.split("\t")
    if len(columns) != COLUMNS:
        raise UserError(f"{place}: {len(columns)} columns; CoNLL-U has {COLUMNS}, separated by tabs")
    if not re.fullmatch(r"\d+([-.]\d+)?", columns[0]) or not _letters(columns[1]):
        raise UserError(f"{place}: ID {columns[0]!r} and FORM {columns[1]!r}; give 1, 1-2 or 1.1, and a form")
    return columns


def _sentence(comments: list[str], rows: list[_Line]) -> _Sentence:
    """Returns a sentence with its words where the text has them."""
    stated = [match[1] for match in (re.match(r"#\s*text\s*=\s?(.*)", comment) for comment in comments) if match]
    written = _written(rows)
    text = stated[0] if stated else "".join(form + blank for _, form, blank, _ in written).strip()
    spans: dict[int, tuple[int, int]] = {}
    position = 0
    for place, form, _, members in written:
        position, end = _find(text, form, position, place)
        spans |= dict.fromkeys(members, (position, end))
        position = end
    if text[position:].strip():
        raise UserError(f"{rows[-1].place}: the text goes on with {text[position:].strip()!r} after the last word")
    return _Sentence(text, tuple(_nodes([row for row in rows if row.columns[0].isdigit()], spans)))


def _written(rows: list[_Line]) -> list[tuple[str, str, str, range]]:
    """Returns what the text writes: place, form, the blank behind it, and the words (from 1) that it stands for."""
    written: list[tuple[str, str, str, range]] = []
    for place, (number, form, *_, misc) in rows:
        if "." in number:
            continue
        first, _, last = number.partition("-")
        members = range(int(first), int(last or first) + 1)
        if written and members.start in written[-1][3] and not last:
            continue  # written already, as part of the range
        if members.start != (written[-1][3].stop if written else 1) or not members:
            raise UserError(f"{place}: ID {number}; words are numbered 1, 2, 3 in each sentence")
        written.append((place, form, "" if "SpaceAfter=No" in misc.split("|") else " ", members))
    return written


def _find(text: str, form: str, position: int, place: str) -> tuple[int, int]:
    """Returns where a form stands: at ``position`` or behind the white space there; its own may differ."""
    pattern = r"\s*".join(re.escape(char) for char in _letters(form))
    match = re.compile(r"\s*(" + pattern + ")").match(text, position)
    if not match:
        raise UserError(f"{place}: form {form!r} is not what the text has there: {text[position : position + 20]!r}")
    return match.span(1)


def _nodes(rows: list[_Line], spans: Mapping[int, tuple[int, int]]) -> Iterator[Node]:
    """Yields the words; ``spans`` are by number from 1."""
    for index, (place, columns) in enumerate(rows, 1):
        head, relation = columns[6], columns[7]
        if columns[0] != str(index) or index not in spans:
            raise UserError(f"{place}: ID {columns[0]}; words are numbered 1, 2, 3 in each sentence")
        if not head.isdecimal() or int(head) > len(rows) or int(head) == index or relation in ("", "_"):
            raise UserError(
                f"{place}: HEAD {head!r} and DEPREL {relation!r}; give another word's number up to {len(rows)}, "
                "0 for the root, and a relation"
            )
        yield Node(*spans[index], int(head) - 1, relation)
    if len(spans) != len(rows):
        raise UserError(f"{rows[-1].place if rows else 'sentence'}: a range names words that are not there")


def _joined(sentences: list[_Sentence]) -> tuple[str, Parse]:
    """Returns the text of several sentences, and their words in it."""
    nodes: list[Node] = []
    start = 0
    for text, words in sentences:
        first = len(nodes)
        for node in words:
            head = ROOT if node.head == ROOT else node.head + first
            nodes.append(Node(node.start + start, node.end + start, head, node.relation))
        start += len(text) + 1
    return " ".join(sentence.text for sentence in sentences), Parse(tuple(nodes))
