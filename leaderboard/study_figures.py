"""The figures of the study of lambda: drawn alike on every machine, on white, in colours that all eyes tell apart."""

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attrlab.leaderboard.study import CLAIMED, OPTIMUM, Curve, Studied, Study, curve, text_curve

# Okabe and Ito's palette; lines differ in dash and marker too.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#666666"
STYLES = ((BLUE, "-", "o"), (ORANGE, "--", "s"), (GREEN, ":", "^"), (PURPLE, "-.", "D"))

PER_ROW = 3
"""Models side by side."""

SIZE = (3.7, 3.1)
"""Inches of one panel."""

LEGEND = 0.3
"""Inches for the legend below a row of panels."""

SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "attrlab",
    "svg.fonttype": "path",
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.titlesize": 9,
    "xtick.labelsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8,
}

CLAIM_DASH = (0, (1, 2))

Draw = Callable[[Axes, Study, Studied], None]


def figures(study: Study) -> dict[str, str]:
    """Returns the figures as SVG by name, the same bytes for the same study and versions."""
    return {name: _svg(study, name) for name in _drawn(study)}


def overview(study: Study) -> bytes:
    """Returns the most telling figures below each other, as PNG."""
    with mpl.rc_context(SETTINGS):
        file = io.BytesIO()
        names = [name for name in _drawn(study) if name not in {"entropy", "optimality"}]
        _figure(study, names).savefig(file, format="png", dpi=130, metadata={"Software": None})
        return file.getvalue()


def _svg(study: Study, name: str) -> str:
    with mpl.rc_context({**SETTINGS, "svg.hashsalt": name}):
        file = io.StringIO()
        _figure(study, [name]).savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    # Several stand in one page: no two things there may have one name.
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", file.getvalue())


def _drawn(study: Study) -> list[str]:
    return [name for name in _DRAWINGS if name != "text" or study.setup.text is not None]


def _figure(study: Study, names: Sequence[str]) -> Figure:
    """Returns the named drawings below each other, each with a panel per model and one legend."""
    columns = min(PER_ROW, len(study.models))
    rows = -(-len(study.models) // columns)
    height = (SIZE[1] * rows + LEGEND) * len(names)
    figure = Figure(figsize=(SIZE[0] * max(2, columns), height), layout="constrained", facecolor="white")
    parts = figure.subfigures(len(names), 1, squeeze=False)[:, 0]
    for part, name in zip(parts, names, strict=True):
        panels = part.subplots(rows, columns, squeeze=False).ravel()
        for panel in panels[len(study.models) :]:
            panel.set_axis_off()
        for panel, model in zip(panels, study.models, strict=False):
            _DRAWINGS[name](panel, study, model)
            panel.set_xscale("log")
            panel.set_xticks(study.setup.lams, [f"{lam:g}" for lam in study.setup.lams])
            panel.set_xticks([], minor=True)
            panel.set_xlabel("weight of the entropy λ (no unit)")
            panel.set_title(model.name, loc="left")
        handles, labels = panels[0].get_legend_handles_labels()
        part.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def _line(panel: Axes, found: Curve, label: str, style: int) -> None:
    color, dash, marker = STYLES[style]
    panel.plot(found.lams, found.mean, color=color, linestyle=dash, marker=marker, markersize=3.5, label=label)
    panel.fill_between(found.lams, found.low, found.high, color=color, alpha=0.18, linewidth=0)


def _level(panel: Axes, at: float, label: str) -> None:
    panel.axhline(at, color=GREY, linewidth=0.9, linestyle=CLAIM_DASH, label=label)


def _interest(panel: Axes, _study: Study, model: Studied) -> None:
    _line(panel, curve(model, "planted"), "planted word", 0)
    _line(panel, curve(model, "ordinary"), "ordinary word", 1)
    _level(panel, float(curve(model, "floor").mean[0]), "tolerates the most noise there is")
    panel.set_ylabel(r"interest $\ln\rho$ (ln of 1 / noise variance)")


def _text(panel: Axes, study: Study, model: Studied) -> None:
    for style, (measure, word) in enumerate(zip(("planted", "ordinary"), study.setup.pair, strict=True)):
        _line(panel, text_curve(model, measure), f"“{word}”", style)
    _level(panel, float(text_curve(model, "floor").mean[0]), "tolerates the most noise there is")
    panel.set_ylabel(r"interest $\ln\rho$ (ln of 1 / noise variance)")


def _damage(panel: Axes, study: Study, model: Studied) -> None:
    _line(panel, curve(model, "damage", OPTIMUM), "optimum", 0)
    for style, steps in enumerate(study.setup.unfinished, 1):
        _line(panel, curve(model, "damage", steps), f"stopped after {steps} steps", style)
    panel.set_yscale("log")
    panel.axvline(
        model.claimed,
        color=GREY,
        linewidth=0.9,
        linestyle=CLAIM_DASH,
        label=f"the source's λ = {CLAIMED:g}, on this scale",
    )
    panel.set_ylabel("damage M (in natural variances)")


def _recall(panel: Axes, study: Study, model: Studied) -> None:
    score = "score" if study.setup.shrink else r"score ($\ln\rho$)"
    _line(panel, curve(model, "recall"), f"planted recall, {score}", 0)
    _line(panel, curve(model, "recall_rho"), r"planted recall, $\ln\rho$ alone", 1)
    _line(panel, curve(model, "capped"), "tokens at the cap", 2)
    _line(panel, curve(model, "collapsed"), "sentences collapsed", 3)
    _level(panel, model.chance, "recall of a random order")
    panel.set_ylim(-0.03, 1.03)
    panel.set_ylabel("share (0 to 1)")


def _entropy(panel: Axes, _study: Study, model: Studied) -> None:
    _line(panel, curve(model, "entropy"), "mean ln (s / largest s) at the optimum", 0)
    _level(panel, 0.0, "all tokens tolerate the most noise there is")
    panel.set_ylabel("entropy per token (nats)")


def _optimality(panel: Axes, _study: Study, model: Studied) -> None:
    _line(panel, curve(model, "kkt"), "measured on fresh draws", 1)
    _level(panel, 1.0, "at an exact optimum")
    panel.set_ylabel(r"$(m/\lambda)\,\partial M/\partial u$ below the cap (ratio)")


_DRAWINGS: dict[str, Draw] = {
    "interest": _interest,
    "damage": _damage,
    "recall": _recall,
    "entropy": _entropy,
    "optimality": _optimality,
    "text": _text,
}


def inline(drawing: str, label: str) -> str:
    """Returns an SVG file as an element of a page, named for those who do not see it."""
    element = drawing[drawing.index("<svg") :]
    return element.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
