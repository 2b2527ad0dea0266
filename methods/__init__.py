"""Attribution methods: one file per family, and the catalogue that names them.

Formulas of cost count rows per example in m (units), t (tokens that can be attributed), L (layers) and the method's
own parameters; entries marked as a bound may cost less.
"""

from attrlab.bench.facts import MethodFacts
from attrlab.methods._answers import FROM_ANSWERS
from attrlab.methods._gradients import FROM_GRADIENTS
from attrlab.methods._inside import FROM_INSIDE

CATALOGUE: dict[str, MethodFacts] = FROM_ANSWERS | FROM_GRADIENTS | FROM_INSIDE
"""Facts of every method by id, in the order of every table; reading them imports no method."""
