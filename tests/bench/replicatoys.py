"""Suites with one made-up metric per kind of re-explanations, and an untrained masked language model for them."""

from functools import cache

from attrlab.bench import minis, plan, replicas, suite
from attrlab.bench.masked import MaskedWords
from attrlab.bench.testing import TEXTS
from attrlab.bench.train import save
from attrlab.bench.zoo import BY_MINI

BERT = BY_MINI["bert-base-mini"]

EVERY = [kind for kind in replicas.KINDS if kind != "labels"]

METRIC = """
class Of{kind}:
    facts = {{"replicates": ("{kind}",), "summary": "how many"}}

    def score(self, case):
        return len(case.replicates)
"""

SUITE = """
datasets = ["lexicon"]
methods = ["leave_one_out", "saliency", "lime:samples=20"]
metrics = [{metrics}]
limit = 4
chunk = 2
filler = "{filler}"
[re_explain]
examples = 3
seeds = 2
draws = 2
variants = 2
"""


@cache
def filler(kind="words"):
    """An untrained masked language model with an opinion of its own on every text."""
    vocabulary = minis.word_tokenizer(TEXTS) if kind == "words" else minis.tokenizer(BERT, TEXTS)
    network = minis.masked_network(BERT, vocabulary, 0).requires_grad_(requires_grad=False)
    for weight in network.parameters():
        if weight.ndim > 1:
            weight.mul_(4.0)
    return MaskedWords(network, vocabulary, kind)


def write_suite(folder, kinds=EVERY):
    """Writes a suite, its filler and, per kind, a metric that counts the re-explanations; returns the suite's path."""
    save(filler(), {}, folder / "filler")
    (folder / "mine.py").write_text("".join(METRIC.format(kind=kind) for kind in kinds))
    metrics = ", ".join(f'"{folder}/mine.py:Of{kind}"' for kind in kinds)
    path = folder / "mine.toml"
    path.write_text(SUITE.format(metrics=metrics, filler=folder / "filler"))
    return path


def planned(path, model):
    """Returns the plan of a suite for a model folder."""
    return plan.make(suite.override(suite.load(str(path)), models=[str(model)]), None, lambda _name, _dataset: None)
