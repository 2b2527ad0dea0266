"""Sequential integrated gradients by time_interpret on classifiers of known weights: writes its ``data`` file.

The numbers were made with time_interpret 0.3.0 (installed without its dependencies), captum 0.9.0, torch 2.13.0 for
CPU, pytorch-lightning 2.5.5 and transformers 5.23.0, in an environment beside the project's. To make them again:

    python3.11 -m venv tint
    tint/bin/pip install captum==0.9.0 torch==2.13.0 pytorch-lightning==2.5.5 transformers==5.23.0 pandas scikit-learn
    tint/bin/pip install --no-deps time_interpret==0.3.0
    tint/bin/python tests/methods/references/time_interpret_sig.py

Only the core of the package is used, with word embeddings as inputs and one class explained along the whole path.
``network`` does not need time_interpret: the test rebuilds the same models with it.
"""

import json
from pathlib import Path

import numpy as np
import torch
import transformers

RESULTS = Path(__file__).parents[1] / "data" / "time_interpret_sig.json"
IDS = (3, 14, 15, 9, 2, 6, 5)
"""Token ids of the text; the first and the last are not attributed."""
BLANK = 4
"""Id of the replacement token."""
STEPS, TARGET = 50, 1
FAMILIES = ("bert", "gpt2", "opt")


def network(family):
    """Returns a classifier in float64; its weights are drawn by NumPy, in the order of their names."""
    common = {"vocab_size": 40, "num_labels": 3, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    if family == "bert":
        config = transformers.BertConfig(
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=48,
            max_position_embeddings=16,
            **common,
        )
        model = transformers.BertForSequenceClassification(config)
    elif family == "gpt2":
        config = transformers.GPT2Config(n_positions=16, n_embd=24, n_layer=2, n_head=4, **common)
        model = transformers.GPT2ForSequenceClassification(config)
    else:
        config = transformers.OPTConfig(
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            ffn_dim=48,
            word_embed_proj_dim=24,
            max_position_embeddings=16,
            **common,
        )
        model = transformers.OPTForSequenceClassification(config)
    rng = np.random.default_rng(7)
    for name, weight in sorted(model.named_parameters()):
        values = torch.from_numpy(rng.normal(size=tuple(weight.shape)) * 0.3)
        norm = "norm" in name.lower() or ".ln_" in name
        weight.data = 1 + values if norm and name.endswith("weight") else values
    return model.double().eval().requires_grad_(requires_grad=False)


def main():
    """Writes the sum and the length over dimensions of what time_interpret finds, per family."""
    from tint.attr import SequentialIntegratedGradients

    found = {}
    for family in FAMILIES:
        model = network(family)
        embed = model.get_input_embeddings()
        ids = torch.tensor([IDS])
        blank = torch.full_like(ids, BLANK)
        blank[0, [0, -1]] = ids[0, [0, -1]]
        method = SequentialIntegratedGradients(lambda inputs, model=model: model(inputs_embeds=inputs).logits)
        parts = method.attribute(embed(ids), embed(blank), target=TARGET, n_steps=STEPS)[0].detach()
        found[family] = {"sum": parts.sum(-1).tolist(), "l2": parts.norm(dim=-1).tolist()}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
