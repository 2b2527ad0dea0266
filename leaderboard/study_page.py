"""The page of the study of lambda: one self-contained HTML file in the dress of the leaderboard."""

from collections.abc import Mapping

from markupsafe import Markup, escape

from attrlab.leaderboard.study import Study
from attrlab.leaderboard.study_figures import inline
from attrlab.leaderboard.study_tables import LEGEND, MEASURES, findings, heads, rows
from attrlab.leaderboard.study_words import plain
from attrlab.leaderboard.template import fill

Pairs = list[tuple[str, str]]

CAPTIONS = {
    "interest": (
        "Interest of two designated words",
        "One planted and one ordinary word of every sentence, drawn by the id of the sentence alone (figure 4a of the "
        "source shows one such pair). Higher means that less noise is tolerated.",
    ),
    "text": ("Interest of the two words of your text", "Line: mean over seeds; band: their range."),
    "damage": (
        "Damage M",
        "Optima come from one sweep along λ, each started from the one before. The others start anew at every λ from "
        "the most noise there is and are stopped early. All are measured on the same fresh draws (compare figure 4b of "
        "the source).",
    ),
    "recall": (
        "Planted recall, cap and collapse",
        "The score of co-perturbation is ln rho, shrunk a little towards the length of the gradient, which orders the "
        "words that are tied at the cap.",
    ),
    "entropy": ("Entropy", "How much noise is tolerated on average; like M it cannot fall between exact optima."),
    "optimality": (
        "Are these optima?",
        "At an exact optimum the slope of M pays for the entropy, and the ratio is 1. Its mean is heavy-tailed: few "
        "draws carry most of it.",
    ),
}


def page(study: Study, drawings: Mapping[str, str]) -> str:
    """Returns the HTML page of a study and its figures: no network, no file beside it."""
    measures = tuple(name for name, _ in MEASURES)
    found = list(findings(study))
    return fill(
        "study.html.j2",
        study=study,
        answer=found[0][1][0],
        findings=[(found[0][0], found[0][1][1:]), *found[1:]],
        drawings=[
            (name, *CAPTIONS[name], Markup(inline(drawing, str(escape(CAPTIONS[name][0])))))
            for name, drawing in drawings.items()
        ],
        heads=heads(study, measures),
        tables=[
            (
                model,
                [
                    (plain(lam), cells)
                    for lam, cells in zip(study.setup.lams, rows(study, model, measures), strict=True)
                ],
            )
            for model in study.models
        ],
        legend=LEGEND,
        settings=_settings(study),
        provenance=_provenance(study),
    )


def _settings(study: Study) -> Pairs:
    setup = study.setup
    stopped = " and ".join(str(steps) for steps in setup.unfinished)
    rows = [
        ("Data set", study.dataset.name),
        ("Sentences", f"first {setup.limit} with planted words that the model classifies correctly"),
        ("Weights", ", ".join(plain(lam) for lam in setup.lams)),
        (
            "Budget",
            f"{setup.preset}: {setup.draws} draws x {setup.steps} steps, half the steps from the second weight on",
        ),
        ("Stopped early", f"after {stopped} steps"),
        ("Seeds", str(setup.seeds)),
        ("M is measured on", f"{setup.fresh} fresh draws per seed, the same at all weights"),
        ("Text", setup.text or ""),
        ("Fingerprint", study.dataset.fingerprint[:12]),
    ]
    return [(label, value) for label, value in rows if value]


def _provenance(study: Study) -> Pairs:
    origin, git = study.provenance, study.provenance.git
    dirty = " with uncommitted changes" if git and git.get("dirty") else ""
    rows = [
        ("attrlab", origin.attrlab),
        ("Commit", f"{str(git.get('commit'))[:12]}{dirty}" if git else ""),
        ("Python", origin.python),
        ("Packages", ", ".join(f"{name} {version}" for name, version in sorted(origin.versions.items()))),
        ("Machine", ", ".join(part for part in (origin.device, origin.platform) if part)),
        ("Started", origin.started),
        *(("Weights of " + model.name, (model.card.hash or "")[:12]) for model in study.models),
    ]
    return [(label, value) for label, value in rows if value]
