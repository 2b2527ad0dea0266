"""Evaluation metrics: one file per kind, and the catalogue that names them.

A metric is a class whose constructor takes its parameters and that has

    def score(self, case: Case) -> Score           # asks the model nothing
    def score(self, case: Case) -> Asker[Score]    # generator: p = yield from case.probabilities(keep)

or, if it trains models, ``study`` (see :mod:`attrlab.metrics.roar`). Importing this module imports no metric: ``where``
is resolved on first use. Formulas of cost count questions per example in m (units) and the metric's own parameters,
for scores of which at most a fifth are tied; entries marked as a bound may ask less.
"""

from dataclasses import replace

from attrlab.bench.facts import MetricFacts
from attrlab.metrics._again import AGAIN
from attrlab.metrics._describing import DESCRIBING
from attrlab.metrics._faithfulness import FAITHFULNESS
from attrlab.metrics._functions import FUNCTIONS
from attrlab.metrics._people import PEOPLE
from attrlab.metrics._truth import TRUTH
from attrlab.metrics._validity import VALIDITY

CATALOGUE: dict[str, MetricFacts] = {
    name: replace(facts, validity=VALIDITY.get(name, ""))
    for name, facts in (FAITHFULNESS | FUNCTIONS | PEOPLE | TRUTH | AGAIN | DESCRIBING).items()
}
"""Facts of every metric by id, in the order of every table; reading them imports no metric."""
