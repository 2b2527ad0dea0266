"""When a metric can be trusted: the readings, and the stated rules that turn them into one word."""

from dataclasses import dataclass, fields

DIAGNOSTIC = 0.6
"""Diagnosticity below which a metric is left out of aggregates (metrics spec 12.6)."""

RELIABLE = 0.7
"""Split-half reliability from which an order of methods would come out alike on as many other examples."""

AGREEING = 0.5
"""Kendall's tau with itself under other operators below which its order is theirs."""

CHANCE = 0.5
"""What a metric that tells nothing gets, as a share of comparisons."""

DIVIDED = "passes under several operators, but orders methods otherwise under each"
"""Reason of a :func:`divided` metric."""

TRUST, WEAK, BARRED, OPEN = "trust", "weak", "do not use here", "not judged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A number with its 95 % interval, or why there is none.

    Attributes:
        value: The number, None where ``reason`` says why.
        low: Lower end, None where no interval is defined.
        high: Upper end.
        n: What it was read from: examples, or operators.
        reason: Why there is no number.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What is known of a metric.

    Attributes:
        diagnosticity: Share of real methods that beat knowing nothing, [0, 1], higher is better, 1/2 is chance.
        floor: Mean of random, in the metric's own units.
        ceiling: Mean of the greedy oracle, likewise.
        place: Of the best real method between the two, 0 and 1; above 1 where the oracle is not the best there is.
        reliability: Split-half rank correlation of methods, stepped up, [-1, 1], higher is better.
        separated: Share of pairs of real methods that are told apart, [0, 1], higher is better.
        separated_few: The same on 32 examples.
        operators: Mean Kendall's tau with itself under the run's other operators, [-1, 1], higher is better.
        gain: Ranks that methods gain which remove words as the metric does; 0 favours nobody.
        ladder: Share of neighbouring rungs in order, [0, 1], higher is better, 1/2 is chance.
        ladder_rank: Spearman's correlation of score and share of scores in place, [-1, 1], higher is better.
        cheater: How often the cheater beats random, [0, 1]; 1/2 is what it deserves.
    """

    diagnosticity: Reading
    floor: Reading
    ceiling: Reading
    place: Reading
    reliability: Reading
    separated: Reading
    separated_few: Reading
    operators: Reading
    gain: Reading
    ladder: Reading
    ladder_rank: Reading
    cheater: Reading

    def absent(self) -> dict[str, str]:
        """Returns why there is no number, by the name of the reading."""
        found = {field.name: getattr(self, field.name).reason for field in fields(self)}
        return {name: reason for name, reason in found.items() if reason is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """``trust``, ``weak``, ``do not use here`` or ``not judged``, and what speaks against more."""

    word: str
    reasons: tuple[str, ...] = ()


def judged(found: Readings) -> Verdict:
    """Returns the verdict by the stated rules.

    ``do not use here``: diagnosticity below 0.6, or the upper end of the ladder's interval at or below 1/2. ``weak``:
    what :func:`_doubts` lists, and, of several operators, :func:`divided`. ``not judged``: nothing speaks against it,
    but diagnosticity, reliability or ladder were not measured. ``trust``: the rest.
    """
    barred = [
        *(["diagnosticity below 0.6"] if _below(found.diagnosticity, DIAGNOSTIC) else []),
        *(["degraded explanations come in no better order than by chance"] if _chance(found.ladder) else []),
    ]
    if barred:
        return Verdict(word=BARRED, reasons=tuple(barred))
    doubts = _doubts(found)
    if doubts:
        return Verdict(word=WEAK, reasons=tuple(doubts))
    needed = ("diagnosticity", "reliability", "ladder")
    absent = tuple(f"{name} not measured" for name in needed if getattr(found, name).value is None)
    return Verdict(word=OPEN, reasons=absent) if absent else Verdict(word=TRUST)


def divided(word: str, found: Readings, trusted_under: int) -> bool:
    """Returns whether a metric that passes under several operators orders methods otherwise under them.

    Then at least one of the orders is wrong, and nothing says which.
    """
    return word == TRUST and trusted_under > 1 and _below(found.operators, AGREEING)


def _doubts(found: Readings) -> list[str]:
    """Returns what keeps a metric from being trusted, of what was measured."""
    cheater, ladder, diagnosticity = found.cheater, found.ladder, found.diagnosticity
    rules = [
        (_below(diagnosticity, DIAGNOSTIC, low=True), "diagnosticity may be below 0.6"),
        (_below(found.reliability, RELIABLE), "other examples may order methods otherwise"),
        (ladder.value is not None and (ladder.low or 0.0) <= CHANCE, "degraded explanations may be in order by chance"),
        (found.separated.value == 0, "tells no two methods apart"),
        (
            (cheater.value or 0.0) >= DIAGNOSTIC and (cheater.low or 0.0) > CHANCE,
            "rewards places in the text that give the class away",
        ),
    ]
    return [reason for broken, reason in rules if broken]


def _below(found: Reading, least: float, *, low: bool = False) -> bool:
    """Returns whether a number, or the lower end of its interval, is known and too low."""
    value = found.low if low and found.low is not None else found.value
    return value is not None and value < least


def _chance(found: Reading) -> bool:
    return found.high is not None and found.high <= CHANCE
