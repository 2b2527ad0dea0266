"""The facts of methods and metrics: what the catalogues hold, readable without importing what they describe."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Param = bool | int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodFacts:
    """What is known of a method without importing it.

    Attributes:
        where: ``module:Class``.
        family: ``control``, ``removal``, ``surrogate``, ``shapley``, ``gradient``, ``path``, ``attention``,
            ``relevance``, ``dynamics``, ``noise`` or ``plug-in``.
        summary: One line for ``attrlab list``.
        signed: Positive means "supports the target" (else magnitude only).
        deterministic: The seed changes nothing.
        needs: What the model must offer beyond answering questions: ``embeddings``, ``gradients``, ``attentions``,
            ``calibration`` (example texts), ``causal`` (a decoder).
        reference: Paper or package the method agrees with.
        forwards: Rows asked per example, a formula in m (units), L (layers) and the parameters.
        backwards: Rows of backward passes, likewise.
        complete: The scores claim to add up to F(x) - F(all words replaced).
        bound: The two formulas are upper bounds (questions merged, or an early end), not exact.
        quick: Parameters that cut the cost to a few dozen passes on a short text, for tests and very large models.
        version: Raised by hand whenever scores change.
    """

    where: str
    family: str = "plug-in"
    summary: str = ""
    signed: bool = True
    deterministic: bool = False
    complete: bool = False
    needs: tuple[str, ...] = ()
    reference: str = ""
    forwards: str = ""
    backwards: str = "0"
    bound: bool = False
    quick: Mapping[str, Param] = field(default_factory=dict)
    version: str = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricFacts:
    """What is known of a metric without importing it: its card.

    Attributes:
        where: ``module:Class``.
        family: ``faithfulness``, ``agreement``, ``plausibility``, ``ground truth``, ``stability``, ``sanity``,
            ``complexity``, ``human`` or ``cost``.
        summary: One line for ``attrlab list``.
        formula: What is computed, in the symbols of the docstring.
        higher_is_better: Direction; None for a metric that only describes.
        bounds: Lowest and highest possible value.
        invariances: What of an explanation may change without changing the value: ``scale`` (by a positive number),
            ``monotone`` (any increasing transformation), ``sign``.
        asks: The metric asks the model under a removal operator (one column per operator).
        operators: Removal operators that it asks under by itself, whatever the column's.
        needs: ``rationales``, ``planted`` (rationales known by construction) or ``complete`` (a method that is).
        replicates: Kinds of re-explanations the metric compares, as in ``("seed",)``; see ``bench.replicas``.
        trains: The metric trains models: it runs only where a suite names it.
        comparable: Across what the value may be compared.
        caveat: What a reader must know before trusting it; empty if nothing.
        validity: In how many settings (planted task, model, operator) it puts an oracle before the best method and
            that before noise, as measured by ``tests/acceptance/metric_validity.py``; empty where that was not tried.
        reference: Paper.
        forwards: Questions asked per example, a formula in m and the parameters.
        bound: The formula is an upper bound.
        measured: The value is measured on this machine (time), not computed.
        version: Raised by hand whenever values change.
    """

    where: str
    family: str = "plug-in"
    summary: str = ""
    formula: str = ""
    higher_is_better: bool | None = True
    bounds: tuple[float, float] = (float("-inf"), float("inf"))
    invariances: tuple[str, ...] = ()
    asks: bool = False
    operators: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    replicates: tuple[str, ...] = ()
    trains: bool = False
    comparable: str = "methods"
    caveat: str = ""
    validity: str = ""
    reference: str = ""
    forwards: str = "0"
    bound: bool = False
    measured: bool = False
    version: str = "1"
