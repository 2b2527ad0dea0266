"""Untrained models of the geometry of the minis that are no classifiers, and what their tests share."""

import numpy as np
import torch
import transformers

from attrlab.bench.continuation import ContinuationModel, Prompt
from attrlab.bench.engine import Engine
from attrlab.bench.explain import Question, outcomes
from attrlab.bench.inputs import Example
from attrlab.bench.questions import QuestionModel
from attrlab.bench.registry import METHODS
from attrlab.bench.removal import whole
from attrlab.bench.testing import tiny
from attrlab.bench.zoo import BY_MINI

DECODERS = ("gpt2-mini", "opt-125m-mini", "opt-350m-mini")
LANGUAGE = {"gpt2": transformers.GPT2LMHeadModel, "opt": transformers.OPTForCausalLM}
QUESTIONS = {
    "bert": transformers.BertForQuestionAnswering,
    "gpt2": transformers.GPT2ForQuestionAnswering,
    "opt": transformers.OPTForQuestionAnswering,
}


def network(mini, classes, dtype=torch.float64):
    """A network of its own, with weights large enough that every word counts."""
    config = type(tiny(mini).network.config).from_dict(tiny(mini).network.config.to_dict())
    config.architectures = None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = classes[BY_MINI[mini].family](config).eval().requires_grad_(requires_grad=False).to(dtype)
    for weight in made.parameters():
        if weight.ndim > 1:
            weight.mul_(6.0)
        elif not weight.any():
            weight.add_(torch.linspace(-0.2, 0.3, len(weight)))  # biases that a test would miss if they were zero
    return made


def continuations(mini, dtype=torch.float64):
    return ContinuationModel(network(mini, LANGUAGE, dtype), tiny(mini).tokenizer, mini)


def questions(mini, dtype=torch.float64, **options):
    return QuestionModel(network(mini, QUESTIONS, dtype), tiny(mini).tokenizer, mini, **options)


def prompt(text, told=" film", foils=(" plot",), name="0"):
    return Prompt(id=name, texts=(text, told), label=None, foils=foils)


def asked(question, context, name="0"):
    return Example(id=name, texts=(question, context), label=None)


def batch_of(model, coded):
    return model.collate([whole(one) for one in coded], [one.units >= 0 for one in coded])


def explained(model, coded, method, *, operator="replace", noise=None):
    """What a method of the catalogue, or an object, makes of encoded examples, class 0 being explained."""
    built = METHODS.find(method).build() if isinstance(method, str) else method
    asked_for = [
        Question(slot=slot, target=0, seed=(0, slot), noise=None if noise is None else noise[slot])
        for slot in range(len(coded))
    ]
    found = outcomes(built, asked_for, Engine(model, coded), operator=operator)
    for one in found:
        assert one.error is None, one.error
        assert np.isfinite(one.scores).all()
    return found
