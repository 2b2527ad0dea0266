"""What the numbers of the study of lambda say, in sentences; each follows from stored numbers, none is fixed."""

from collections.abc import Sequence

from attrlab.leaderboard.study import CLAIMED, OPTIMUM, Change, Study, Verdict, change, choice, curve, verdicts

_MINUS = str.maketrans("-", "\N{MINUS SIGN}")


def plain(value: float) -> str:
    """Returns a number with three significant digits and a real minus sign.

    >>> plain(0.00123456), plain(12.0)
    ('0.00123', '12')
    """
    return f"{value:.3g}".translate(_MINUS)


def span(found: Change) -> str:
    """Returns a change with its interval, signed."""
    ends = f"[{found.low:+.2g}, {found.high:+.2g}]"
    return f"{found.mean:+.2g} {ends}".translate(_MINUS)


def answer(study: Study) -> str:
    """Returns whether the source's U-shape appears at converged optima: one plain sentence."""
    found = verdicts(study)
    n = len(found)
    shaped = [one for one in found if one.shape == "u"]
    if not shaped:
        seen = "in this model" if n == 1 else f"in any of the {n} models"
        return f"No: at converged optima the damage M shows no U-shape against lambda {seen}."
    lowest = ", ".join(plain(one.lowest) for one in shaped)
    where = f"lowest at lambda = {lowest}; the source reports {plain(CLAIMED)} on its scale"
    if len(shaped) == n:
        return f"Yes: at converged optima the damage M is U-shaped against lambda ({where})."
    return f"In part: at converged optima M is U-shaped against lambda in {len(shaped)} of {n} models ({where})."


def shape_line(verdict: Verdict) -> str:
    """Returns what M does along lambda, from measured differences."""
    first, last = verdict.curve.mean[0], verdict.curve.mean[-1]
    ends = (
        f"from {plain(first)} at lambda = {plain(verdict.whole.start)} to {plain(last)} at {plain(verdict.whole.end)}"
    )
    if verdict.shape == "u":
        return (
            f"M falls to its lowest value at lambda = {plain(verdict.lowest)} ({span(verdict.drop)} from the first "
            f"weight), then rises ({span(verdict.climb)} to the last): a U-shape."
        )
    if verdict.shape == "falls":
        steps = "; ".join(f"{plain(c.start)} to {plain(c.end)}: {span(c)}" for c in verdict.falls)
        return f"M goes {ends}, no U-shape, but falls beyond its interval at {len(verdict.falls)} step(s): {steps}."
    if verdict.shape == "rises":
        return f"M rises {ends} ({span(verdict.whole)}); no step falls beyond its interval."
    return f"M goes {ends}; neither a rise nor a fall exceeds its interval ({span(verdict.whole)})."


def unfinished_lines(study: Study) -> list[str]:
    """Returns, per early stop, in how many models M is U-shaped or falls somewhere, and by how much."""
    lines = []
    for steps in study.setup.unfinished:
        found = list(zip(study.models, verdicts(study, steps), strict=True))
        shaped = ", ".join(
            f"{model.name} (lowest at {plain(one.lowest)}, {-one.drop.mean / one.curve.mean[0]:.0%} below the first)"
            for model, one in found
            if one.shape == "u"
        )
        falling = ", ".join(f"{model.name} (by {deepest(one):.0%})" for model, one in found if one.shape == "falls")
        parts = [f"U-shaped in {shaped}" if shaped else "U-shaped in no model"]
        parts += [f"falling at some step in {falling}"] if falling else []
        lines.append(f"Stopped after {steps} steps from the most noise, M is {', '.join(parts)}.")
    return lines


def deepest(verdict: Verdict) -> float:
    """Returns the largest share of its M that a curve loses to a later weight, beyond the interval; 0 for none."""
    last = len(verdict.curve.lams)
    changes = [(start, change(verdict.curve, start, end)) for start in range(last) for end in range(start + 1, last)]
    return max((-one.mean / float(verdict.curve.mean[start]) for start, one in changes if one.falls), default=0.0)


def optimality_line(study: Study) -> str:
    """Returns at which weights the optima are not shown to be reached."""
    missed = []
    for model in study.models:
        ratio = curve(model, "kkt")
        far = [
            float(lam) for lam, low, high in zip(ratio.lams, ratio.low, ratio.high, strict=True) if not low <= 1 <= high
        ]
        missed += [f"{model.name} at {_list(far, study.setup.lams)}"] if far else []
    if not missed:
        return "Optimality: the interval of the ratio holds 1, its value at an exact optimum, at every weight."
    where = "; ".join(missed)
    return (
        f"Optimality: the interval of the ratio does not hold 1, its value at an exact optimum, for {where}: there the "
        "sweep is not quite at the optimum, or the heavy-tailed ratio needs more draws. A larger --preset tells."
    )


def scale_line(study: Study) -> str:
    """Returns where the source's weight lies on the scale used here."""
    places = ", ".join(f"{plain(model.claimed)} for {model.name}" for model in study.models)
    return (
        f"The source divides neither M nor the entropy: its lambda = {plain(CLAIMED)} corresponds to the weights "
        f"{places} here (dotted lines in the figure)."
    )


def explanation(study: Study) -> str:
    """Returns what the comparison of optima and unfinished runs allows to say about where a U-shape comes from."""
    at_optimum = max(deepest(one) for one in verdicts(study, OPTIMUM))
    stopped = max((deepest(one) for steps in study.setup.unfinished for one in verdicts(study, steps)), default=0.0)
    if at_optimum:
        return (
            f"Exact optima cannot lose damage as lambda grows. Here they lose up to {at_optimum:.0%}: there the "
            "optimisation has not reached them, or the interval missed, as one in twenty does. A larger --preset tells."
        )
    if stopped:
        return (
            f"M falls beyond its interval only where optimisation was stopped early, by {stopped:.0%} at most: "
            "an unfinished run can make a fall, exact optima cannot."
        )
    return "M falls beyond its interval nowhere, neither at the optima nor where optimisation was stopped early."


def interest_lines(study: Study) -> list[str]:
    """Returns, per model, where the planted word of the pair draws the higher interest."""
    lines = []
    for model in study.models:
        right = curve(model, "ordered")
        low, high = int(right.mean.argmin()), int(right.mean.argmax())
        lines.append(
            f"{model.name}: the planted word ranks above the ordinary one in {100 * right.mean[low]:.0f} % of "
            f"sentences at lambda = {plain(right.lams[low])} (least) and {100 * right.mean[high]:.0f} % at "
            f"{plain(right.lams[high])} (most)."
        )
    return lines


def advice(study: Study) -> list[str]:
    """Returns how to choose lambda, from the measured collapse and recall."""
    grid, choices = study.setup.lams, [choice(model) for model in study.models]
    lines = []
    for model, found in zip(study.models, choices, strict=True):
        if not found.kept:
            lines.append(f"{model.name}: some sentence collapsed at every weight; try smaller ones.")
            continue
        lines.append(
            f"{model.name}: nothing collapsed at {_list(found.kept, grid)}; planted recall is best, "
            f"{found.best[1]:.2f}, at {plain(found.best[0])}, and not told apart from it at {_list(found.good, grid)}."
        )
    shared = [lam for lam in study.setup.lams if all(lam in found.good for found in choices)]
    usual = study.setup.usual
    if not shared:
        return [*lines, "No weight of this grid is good for all of these models: choose it per model."]
    place = (
        "among them"
        if usual in shared
        else "inside their range"
        if shared[0] < usual < shared[-1]
        else "not among them"
    )
    return [*lines, f"Good for all: lambda = {_list(shared, grid)}. The default, {plain(usual)}, is {place}."]


def _list(lams: Sequence[float], grid: Sequence[float]) -> str:
    """Returns weights as a list, or as a range where they follow each other in the grid."""
    if len(lams) > 2 and tuple(lams) == tuple(lam for lam in grid if lams[0] <= lam <= lams[-1]):
        return f"{plain(lams[0])} to {plain(lams[-1])}"
    return ", ".join(plain(lam) for lam in lams) if lams else "no weight"
