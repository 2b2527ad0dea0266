"""What is known of every data set without reading it; pure data."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInfo:
    """What is known of a data set without reading it.

    Attributes:
        name: Name on the command line and of its folder.
        where: ``module:function``; from a part to its examples (embedded) or from a row to an example (the others).
        summary: One line for ``attrlab list``.
        labels: Names of the classes; a label is an index into them.
        parts: Names of the parts.
        train: The part to train on, or None.
        evaluation: The part that is meant when none is named.
        texts: 1, or 2 for a pair task.
        rationales: ``""``, ``"human"`` or ``"planted"`` (known by construction).
        source: ``embedded``, ``local`` (files in a folder) or ``hub`` (files in a folder, else the hub).
        file: Name of the file that holds a part, with ``{part}`` for the part.
        columns: Columns that the file must have; the texts come first.
        hub_id: Repository on the Hugging Face hub; the configuration has the name of the data set.
        reference: Paper.
        licence: As stated at the source.
        notes: What a reader of results must know, per part; ``""`` stands for all parts.
    """

    name: str
    where: str
    summary: str
    labels: tuple[str, ...]
    parts: tuple[str, ...] = ("train", "dev", "test")
    train: str | None = "train"
    evaluation: str = "test"
    texts: int = 1
    rationales: str = ""
    source: str = "embedded"
    file: str = ""
    columns: tuple[str, ...] = ()
    hub_id: str | None = None
    reference: str
    licence: str
    notes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def notes_on(self, part: str) -> tuple[str, ...]:
        """Returns the notes that hold for a part."""
        return (*self.notes.get("", ()), *self.notes.get(part, ()))


_BUILT = "the rationales are known by construction; no person marked them"
_CUT = "the prepared files hold about 70 % of the rows of the original"
_UNSTATED = "none stated at the source"

_ALL = (
    DatasetInfo(
        name="lexicon",
        where="attrlab.bench.generator:lexicon",
        summary="generated sentiment sentences with negation, intensifiers and distractors",
        labels=("negative", "positive"),
        rationales="planted",
        reference="this package, attrlab.bench.generator_rules",
        licence="Apache-2.0",
        notes={"": (_BUILT, "a model may reach the label in another way than by the stated rule")},
    ),
    DatasetInfo(
        name="shortcut",
        where="attrlab.bench.generator:shortcut",
        summary="opinion sentences whose label is decided by planted words only",
        labels=("class_0", "class_1"),
        rationales="planted",
        reference="after Bastings et al. 2022, arXiv 2111.07367",
        licence="Apache-2.0",
        notes={"": (_BUILT, "the opinion words of the sentences are independent of the label")},
    ),
    DatasetInfo(
        name="and_pair",
        where="attrlab.bench.generator:and_pair",
        summary="opinion sentences: do both of two planted words occur? They matter only together",
        labels=("not_both", "both"),
        rationales="planted",
        reference="metrics spec 7.1 (b)",
        licence="Apache-2.0",
        notes={"": (_BUILT, "only sentences with both words have a rationale: nothing decides for the other class")},
    ),
    DatasetInfo(
        name="pairs",
        where="attrlab.bench.generator:pairs",
        summary="generated questions with statements: is the kind of answer given that is asked for?",
        labels=("entailment", "not_entailment"),
        texts=2,
        rationales="planted",
        reference="this package, attrlab.bench.generator_rules",
        licence="Apache-2.0",
        notes={"": (_BUILT, "without a fitting answer the rationale is the question word and every answer given")},
    ),
    DatasetInfo(
        name="sst2",
        where="attrlab.bench.sources:plain",
        summary="SST-2 (GLUE): sentiment of movie-review sentences",
        labels=("negative", "positive"),
        parts=("train", "dev", "test", "train_sentences"),
        evaluation="dev",
        source="hub",
        file="{part}.tsv",
        columns=("sentence", "label"),
        hub_id="nyu-mll/glue",
        reference="Socher et al. 2013; Wang et al. 2019, arXiv 1804.07461",
        licence=_UNSTATED,
        notes={
            "train": ("phrases as well as sentences",),
            "train_sentences": ("the whole sentences of the training part; local files only",),
            "test": ("local files carry the treebank's labels; the hub publishes none",),
        },
    ),
    DatasetInfo(
        name="qnli",
        where="attrlab.bench.sources:plain",
        summary="QNLI (GLUE): does the sentence answer the question?",
        labels=("entailment", "not_entailment"),
        evaluation="dev",
        texts=2,
        source="hub",
        file="{part}.tsv",
        columns=("question", "sentence", "label"),
        hub_id="nyu-mll/glue",
        reference="Rajpurkar et al. 2016; Wang et al. 2019, arXiv 1804.07461",
        licence=_UNSTATED,
        notes={
            "train": ("the prepared local file is a sample of 9,999 of GLUE's 104,743 rows",),
            "test": ("from the hub only, which publishes no labels",),
        },
    ),
    DatasetInfo(
        name="qqp",
        where="attrlab.bench.sources:plain",
        summary="QQP: are two questions duplicates?",
        labels=("not_duplicate", "duplicate"),
        evaluation="dev",
        texts=2,
        source="hub",
        file="{part}.tsv",
        columns=("question1", "question2", "label"),
        hub_id="nyu-mll/glue",
        reference="Wang et al. 2019, arXiv 1804.07461; local dev and test: Wang et al. 2017 (BiMPM), arXiv 1702.03814",
        licence=_UNSTATED,
        notes={
            "train": ("the prepared local file is a sample of 9,505 of GLUE's 363,846 rows",),
            "dev": ("the prepared local file is the balanced, tokenised BiMPM part, not GLUE's 40,430 rows",),
            "test": ("local: the balanced, tokenised BiMPM part; the hub publishes no labels",),
        },
    ),
    DatasetInfo(
        name="fair_rationales",
        where="attrlab.bench.sources:fair_rationales",
        summary="SST and DynaSent sentences, rationales of up to six annotators each",
        labels=("negative", "positive"),
        parts=("sst", "dynasent"),
        train=None,
        evaluation="sst",
        rationales="human",
        source="local",
        file="{part}.jsonl",
        columns=("tokens", "text_id", "original_label", "annotations"),
        reference="Thorn Jakobsen et al. 2023",
        licence=_UNSTATED,
        notes={
            "": (
                "the label is the one of the original data set",
                "only rationales given for that label are kept: annotators who chose another one are left out",
                _CUT,
            ),
            "sst": (
                "128 of its 192 rows are in SST-2's training part",
                "125 of 1,152 annotations are left out (91 'no sentiment', 34 of the other class)",
            ),
            "dynasent": (
                "500 of 2,124 annotations are left out (304 'no sentiment', 196 of the other class)",
                "5 of its 354 rows have no rationale for their label",
            ),
        },
    ),
    DatasetInfo(
        name="eraser_movies",
        where="attrlab.bench.sources:eraser_movies",
        summary="ERASER movie reviews with rationale spans",
        labels=("NEG", "POS"),
        parts=("train", "val", "test"),
        rationales="human",
        source="local",
        file="{part}.jsonl",
        columns=("text", "id", "label", "rationale_spans"),
        reference="Zaidan et al. 2007; DeYoung et al. 2020, arXiv 1911.03429",
        licence=_UNSTATED,
        notes={
            "": ("reviews are long: models cut them, and rationales beyond the cut are lost", _CUT),
            "train": ("the marking is partial",),
            "val": ("the marking is partial",),
            "test": ("the marking is exhaustive",),
        },
    ),
    DatasetInfo(
        name="hatexplain",
        where="attrlab.bench.sources:hatexplain",
        summary="posts labelled hate speech, offensive or normal; up to three rationales (hateful language)",
        labels=("hatespeech", "normal", "offensive"),
        parts=("val", "test"),
        train=None,
        rationales="human",
        source="local",
        file="{part}.jsonl",
        columns=("tokens", "id", "label", "rationales"),
        reference="Mathew et al. 2021, arXiv 2012.10289",
        licence="MIT",
        notes={
            "": (
                "contains hateful language",
                "the label is the majority's; normal posts have no rationale",
                "rationales do not name their annotator: some were given for the other abusive class",
                _CUT,
            ),
        },
    ),
    DatasetInfo(
        name="tweet_sentiment_extraction",
        where="attrlab.bench.sources:tweet_sentiment_extraction",
        summary="tweets with the part that shows their sentiment",
        labels=("negative", "neutral", "positive"),
        parts=("train", "test"),
        rationales="human",
        source="local",
        file="train.csv",
        columns=("text", "textID", "sentiment", "start", "end"),
        reference="Kaggle 2020, Tweet Sentiment Extraction",
        licence=_UNSTATED,
        notes={
            "": (
                "the parts are ours: a tenth of train.csv, by hash of the text, is the test part",
                "the selection of a neutral tweet mostly is the whole text",
                "some selections start or end inside a word",
                _CUT,
            ),
        },
    ),
)

DATASETS: dict[str, DatasetInfo] = {info.name: info for info in _ALL}
"""All data sets by name, in the order in which they are listed."""
