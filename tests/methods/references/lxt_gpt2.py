"""Relevance by LXT (``lxt.efficient``) on a small GPT-2 classifier of known weights: writes ``data/lxt_gpt2.json``.

The numbers were made in an environment of its own, for LXT patches modelling code of an older transformers:

    python3.11 -m venv lxt
    lxt/bin/pip install torch==2.15.0 torchvision==0.29.2 transformers==4.52.4 numpy==2.2.6
    lxt/bin/pip install --no-deps lxt==2.1
    lxt/bin/python tests/methods/references/lxt_gpt2.py attnLRP cp_LRP

LXT patches whole classes for good, so every rule set runs in a process of its own. ``network`` needs neither LXT nor
an old transformers: the test rebuilds the same model with it.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

RESULTS = Path(__file__).parents[1] / "data" / "lxt_gpt2.json"
TEXTS = ((3, 14, 15, 9, 2, 6, 5), (27, 18, 28), (1, 4, 1, 4, 2, 1, 3, 5, 6, 2, 37))
"""Token ids."""


def network():
    """Returns the classifier in float64; its weights are drawn by NumPy, in the order of their names."""
    config = transformers.GPT2Config(
        vocab_size=40, n_positions=16, n_embd=24, n_layer=3, n_head=4, num_labels=3, pad_token_id=0
    )
    model = transformers.GPT2ForSequenceClassification(config).double().eval()
    rng = np.random.default_rng(20)
    for name, weight in sorted(model.named_parameters()):
        values = torch.from_numpy(rng.normal(size=tuple(weight.shape)) * 0.3)
        weight.data.copy_(1 + values if ".ln_" in name and name.endswith("weight") else values)
    return model.requires_grad_(requires_grad=False)


def relevances(rules):
    """Returns logits, and relevance of the word embeddings per class, text by text, under a rule set of LXT."""
    from lxt.efficient import monkey_patch
    from lxt.efficient.models import gpt2
    from transformers.models.gpt2 import modeling_gpt2

    monkey_patch(modeling_gpt2, patch_map=getattr(gpt2, rules))
    model = network()
    found = []
    for ids in TEXTS:
        inputs = model.get_input_embeddings()(torch.tensor([ids])).requires_grad_()
        logits = model(inputs_embeds=inputs, use_cache=False).logits[0]
        gradients = [torch.autograd.grad(logit, inputs, retain_graph=True)[0] for logit in logits]
        scores = [(inputs * gradient).sum(-1)[0].tolist() for gradient in gradients]
        found.append({"logits": logits.tolist(), "relevance": scores})
    return found


def main(rules):
    """Writes what LXT finds under the rule sets."""
    runs = {}
    for name in rules:
        done = subprocess.run([sys.executable, __file__, "--one", name], capture_output=True, text=True, check=True)
        runs[name] = json.loads(done.stdout.splitlines()[-1])
    RESULTS.write_text(json.dumps(runs, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        sys.stdout.write(json.dumps(relevances(sys.argv[2])))
    else:
        main(sys.argv[1:])
