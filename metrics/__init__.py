"""Evaluation metrics: one file per pair, and the catalogue that names them.

A metric is a class whose constructor takes its parameters and that has

    def score(self, case: Case) -> Score           # asks the model nothing
    def score(self, case: Case) -> Asker[Score]    # generator: p = yield from case.probabilities(keep)

Importing this module imports no metric: ``where`` is resolved on first use.
"""

from attrlab.bench.facts import MetricFacts

CATALOGUE: dict[str, MetricFacts] = {
    "comprehensiveness": MetricFacts(
        where="attrlab.metrics.erasure:Comprehensiveness",
        family="faithfulness",
        summary="Drop of the target's probability when the top-ranked words are removed",
        higher_is_better=True,
        bounds=(-1.0, 1.0),
        asks=True,
        comparable="methods on one model and operator",
        reference="DeYoung et al. 2020, ERASER, section 5.2 (average of its released code)",
        forwards="6",
    ),
    "sufficiency": MetricFacts(
        where="attrlab.metrics.erasure:Sufficiency",
        family="faithfulness",
        summary="Drop of the target's probability when only the top-ranked words are kept",
        higher_is_better=False,
        bounds=(-1.0, 1.0),
        asks=True,
        comparable="methods on one model and operator",
        reference="DeYoung et al. 2020, ERASER, section 5.2 (average of its released code)",
        forwards="6",
    ),
    "tau_loo": MetricFacts(
        where="attrlab.metrics.agreement:TauLoo",
        family="agreement",
        summary="Kendall rank correlation with the effect of leaving one word out",
        higher_is_better=True,
        bounds=(-1.0, 1.0),
        asks=True,
        comparable="methods on one model and operator",
        reference="Jain and Wallace 2019, Attention is not Explanation; Attanasio et al. 2023, ferret",
        forwards="m + 1",
    ),
    "token_f1": MetricFacts(
        where="attrlab.metrics.plausibility:TokenF1",
        family="plausibility",
        summary="F1 between the top-ranked words and the words of the human rationale",
        higher_is_better=True,
        bounds=(0.0, 1.0),
        needs=("rationales",),
        comparable="methods and models on the same examples",
        reference="DeYoung et al. 2020, ERASER, section 5.1 (macro average of token F1)",
    ),
    "auprc": MetricFacts(
        where="attrlab.metrics.plausibility:Auprc",
        family="plausibility",
        summary="Area under the precision-recall curve of the scores against the human rationale",
        higher_is_better=True,
        bounds=(0.0, 1.0),
        needs=("rationales",),
        comparable="methods and models on the same examples",
        reference="DeYoung et al. 2020, ERASER, section 5.1 (trapezoids on the curve of scikit-learn)",
    ),
    "planted_recall": MetricFacts(
        where="attrlab.metrics.planted:PlantedRecall",
        family="ground truth",
        summary="Share of the planted words among as many top-ranked words",
        higher_is_better=True,
        bounds=(0.0, 1.0),
        needs=("planted",),
        comparable="methods and models on the same examples",
        reference="Ribeiro et al. 2016, LIME, section 5.2; Bastings et al. 2022, Will You Find These Shortcuts?",
    ),
    "seed_consistency": MetricFacts(
        where="attrlab.metrics.stability:SeedConsistency",
        family="stability",
        summary="Mean Spearman correlation between explanations under different seeds",
        higher_is_better=True,
        bounds=(-1.0, 1.0),
        replicates=("seed",),
        comparable="methods and models",
        reference="Visani et al. 2022, Statistical stability indices for LIME; metrics spec 5.4",
    ),
    "noise_stability": MetricFacts(
        where="attrlab.metrics.stability:NoiseStability",
        family="stability",
        summary="Largest relative change of the explanation under small noise on the embeddings",
        higher_is_better=False,
        bounds=(0.0, float("inf")),
        needs=("embeddings",),
        replicates=("noise",),
        comparable="methods and models",
        reference="Yeh et al. 2019, On the (In)fidelity and Sensitivity of Explanations, definition 3",
    ),
    "seconds": MetricFacts(
        where="attrlab.metrics.cost:Seconds",
        family="cost",
        summary="Time of one explanation in seconds",
        higher_is_better=False,
        bounds=(0.0, float("inf")),
        comparable="methods on one machine and thread count",
        reference="metrics spec 11",
        measured=True,
    ),
    "forwards": MetricFacts(
        where="attrlab.metrics.cost:Forwards",
        family="cost",
        summary="Inputs sent through the model for one explanation",
        higher_is_better=False,
        bounds=(0.0, float("inf")),
        comparable="methods, models and machines",
        reference="metrics spec 11",
    ),
}
"""Facts of every metric by id, in the order of every table."""
