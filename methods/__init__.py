"""Attribution methods: one file per family, and the catalogue that names them.

Formulas of cost count rows per example in m (units), t (tokens that can be attributed), L (layers) and the method's
own parameters; where a method stops early or merges questions they are upper bounds.
"""

from attrlab.bench.registry import MethodFacts

CATALOGUE: dict[str, MethodFacts] = {
    "random": MethodFacts(
        where="attrlab.methods.controls:Random",
        family="control",
        summary="uniform random scores, the chance level of every metric",
        signed=False,
        reference="methods spec 9",
        forwards="0",
    ),
    "leave_one_out": MethodFacts(
        where="attrlab.methods.removal:LeaveOneOut",
        family="removal",
        summary="change of the explained scalar when one unit is removed",
        deterministic=True,
        reference="Li et al. 2016, arXiv 1612.08220; captum FeatureAblation",
        forwards="m + 1",
    ),
    "word_perturbation": MethodFacts(
        where="attrlab.methods.word_perturbation:WordPerturbation",
        family="noise",
        summary="change of the representation under noise at one token alone",
        signed=False,
        needs=("embeddings", "calibration"),
        reference="individual baseline of co_perturbation (methods spec 2)",
        forwards="draws * t + 1",
    ),
    "saliency": MethodFacts(
        where="attrlab.methods.gradients:Saliency",
        family="gradient",
        summary="length of the gradient at each token's embedding",
        signed=False,
        deterministic=True,
        needs=("embeddings", "gradients"),
        reference="Simonyan et al. 2014, arXiv 1312.6034; captum Saliency",
        forwards="1",
        backwards="1",
    ),
    "input_x_gradient": MethodFacts(
        where="attrlab.methods.gradients:InputTimesGradient",
        family="gradient",
        summary="embedding times gradient, summed over dimensions",
        deterministic=True,
        needs=("embeddings", "gradients"),
        reference="Shrikumar et al. 2016, arXiv 1605.01713; captum InputXGradient",
        forwards="1",
        backwards="1",
    ),
    "integrated_gradients": MethodFacts(
        where="attrlab.methods.paths:IntegratedGradients",
        family="path",
        summary="gradients accumulated from a text of replacement tokens to the text",
        deterministic=True,
        needs=("embeddings", "gradients"),
        reference="Sundararajan et al. 2017, arXiv 1703.01365; captum IntegratedGradients",
        forwards="steps + 2",
        backwards="steps",
    ),
    "shapley_sampling": MethodFacts(
        where="attrlab.methods.shapley:ShapleySampling",
        family="shapley",
        summary="Shapley values averaged over random orders and their reverses",
        reference="Castro et al. 2009; captum ShapleyValueSampling",
        forwards="2 * permutations * m + 1",
    ),
    "lime": MethodFacts(
        where="attrlab.methods.lime:Lime",
        family="surrogate",
        summary="coefficients of a weighted linear model of the answers",
        reference="Ribeiro et al. 2016, arXiv 1602.04938; lime LimeBase",
        forwards="samples",
    ),
    "shap": MethodFacts(
        where="attrlab.methods.shapley:Shap",
        family="shapley",
        summary="Owen values over a balanced tree of neighbouring units (Partition SHAP)",
        deterministic=True,
        reference="Lundberg and Lee 2017, arXiv 1705.07874; shap PartitionExplainer",
        forwards="evals",
    ),
    "attention_last": MethodFacts(
        where="attrlab.methods.attention:AttentionLast",
        family="attention",
        summary="attention of the pooling position in the last layer, mean over heads",
        signed=False,
        deterministic=True,
        needs=("attentions",),
        reference="methods spec 6 (attn_last)",
        forwards="1",
    ),
    "co_perturbation": MethodFacts(
        where="attrlab.methods.co_perturbation:CoPerturbation",
        family="noise",
        summary="largest noise each token tolerates while all tokens are noised",
        signed=False,
        needs=("embeddings", "gradients", "calibration"),
        version="2",
        reference="adaptive co-perturbation (methods spec 1); Guan et al. 2019, ICML",
        forwards="steps * draws + 1",
        backwards="steps * draws",
    ),
}
"""Facts of every method by id, in the order of every table; reading them imports no method."""
