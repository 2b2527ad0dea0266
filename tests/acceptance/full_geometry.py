"""Runs every method on one sentence with each of the nine architectures at full published size, weights random.

Run by hand:  python tests/acceptance/full_geometry.py [--out FILE.json] [--dtype float32] [--device cpu]

One model is in memory at a time (the largest needs about 6 GiB in float32). Methods run at the ``quick`` parameters of
their catalogue entry: the point is that each runs, and what it then takes. Every cell is written to FILE.json as it is
done; run the same command again to go on. Prints a table of seconds and peak memory, model x method.
"""

import argparse
import gc
import json
import resource
import time
from pathlib import Path
from typing import Any

import torch
import transformers

from attrlab.bench import minis
from attrlab.bench.batch import LEAST_TOKENS
from attrlab.bench.contract import quick
from attrlab.bench.engine import Engine, peak_memory
from attrlab.bench.explain import Question, outcomes
from attrlab.bench.generator import lexicon
from attrlab.bench.inputs import Example
from attrlab.bench.model import TextModel
from attrlab.bench.registry import METHODS
from attrlab.bench.testing import TEXTS
from attrlab.bench.zoo import ZOO, ModelInfo

SENTENCE = "A dull film that nobody should watch."
CALIBRATION = 8


def config(info: ModelInfo) -> Any:
    """Returns the published geometry; vocabulary and positions are the defaults of transformers, which are the same."""
    if info.family == "bert":
        return transformers.BertConfig(
            hidden_size=info.width,
            num_hidden_layers=info.layers,
            num_attention_heads=info.heads,
            intermediate_size=4 * info.width,
        )
    if info.family == "gpt2":
        return transformers.GPT2Config(n_embd=info.width, n_layer=info.layers, n_head=info.heads)
    return transformers.OPTConfig(
        hidden_size=info.width,
        num_hidden_layers=info.layers,
        num_attention_heads=info.heads,
        ffn_dim=4 * info.width,
        do_layer_norm_before=not info.post_norm,
        word_embed_proj_dim=info.embedding_width or info.width,
    )


def model(info: ModelInfo, device: str, dtype: torch.dtype) -> TextModel:
    """Returns the classifier with random weights, a small tokenizer of its family and a few texts for calibration."""
    torch.manual_seed(0)
    vocabulary = minis.tokenizer(info, [*TEXTS, SENTENCE])
    settings = config(info)
    settings.pad_token_id = vocabulary.pad_token_id
    network = transformers.AutoModelForSequenceClassification.from_config(settings, dtype=dtype)
    network.requires_grad_(requires_grad=False)
    made = TextModel(network.eval().to(device), vocabulary, info.name)
    made.calibration = [made.encode(example) for example in lexicon("dev")[:CALIBRATION]]
    return made


def high_water(device: str) -> int:
    """Returns the highest memory, in bytes, since :func:`reset`: of the device, or of this process."""
    if device != "cpu":
        return int(torch.cuda.max_memory_allocated())
    status = Path("/proc/self/status")
    if not status.is_file():
        return peak_memory()
    line = next(line for line in status.read_text("utf-8").splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def reset(device: str) -> None:
    """Forgets the highest memory so far, where the system can."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5", "utf-8")


def cell(name: str, loaded: TextModel, device: str) -> dict[str, Any]:
    """Returns what became of one method on the sentence."""
    component = quick(name)
    encoded = [loaded.encode(Example(id="0", texts=(SENTENCE,), label=0))]
    engine = Engine(loaded, encoded, token_budget=LEAST_TOKENS)  # batches are filled up, and there is one sentence
    gc.collect()
    reset(device)
    start = time.perf_counter()
    (found,) = outcomes(component.build(), [Question(slot=0, target=0, seed=(0, "0", name))], engine)
    return {
        "method": component.name,
        "status": "ok" if found.error is None else "skipped" if found.skipped else "failed",
        "reason": found.error,
        "seconds": time.perf_counter() - start,
        "peak": high_water(device),
        "forwards": found.cost.forwards,
        "backwards": found.cost.backwards,
    }


def table(done: dict[str, dict[str, Any]]) -> str:
    """Returns the cells as Markdown: seconds and GiB, or why there are none."""

    def show(found: dict[str, Any] | None) -> str:
        if found is None:
            return ""
        if found["status"] != "ok":
            return f"{found['status']}: {found['reason']}"
        return f"{found['seconds']:.2f} s, {found['peak'] / 2**30:.2f} GiB"

    names = [info.name for info in ZOO]
    lines = ["| method | F + B | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for method in METHODS.entries():
        cells = [done.get(f"{name} {method}") for name in names]
        passes = next((f"{one['forwards']} + {one['backwards']}" for one in cells if one), "")
        lines.append(f"| {method} | {passes} | " + " | ".join(map(show, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    """Fills the cells that are missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("full_geometry.json"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--model", action="append", help="short names of the zoo; all by default")
    options = parser.parse_args()
    done: dict[str, dict[str, Any]] = json.loads(options.out.read_text("utf-8")) if options.out.exists() else {}
    for info in ZOO:
        missing = [name for name in METHODS.entries() if f"{info.name} {name}" not in done]
        if not missing or (options.model and info.name not in options.model):
            continue
        loaded = model(info, options.device, getattr(torch, options.dtype))
        for name in missing:
            done[f"{info.name} {name}"] = cell(name, loaded, options.device)
            options.out.write_text(json.dumps(done, indent=1), "utf-8")
        del loaded
        gc.collect()
    print(table(done))
    statuses = [found["status"] for found in done.values()]
    print({status: statuses.count(status) for status in ("ok", "skipped", "failed")})
    print(f"highest memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
