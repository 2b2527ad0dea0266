"""Times attrlab and its peers, ferret and interpreto, on the same sentences, model, questions and threads.

    python tests/perf/peers.py OUT --model FOLDER --data-dir DIR --threads 2

``FOLDER`` holds a classifier fine-tuned on SST-2, ``DIR`` the data sets. The first run builds an environment per peer
in ``OUT``, from the pinned versions beside this file. The sides take turns, in an order that is reversed with every
alternation, so that a machine that slows down slows down all of them; between the turns it multiplies matrices
(``matmul.py``), which tells what it can do at all. Writes every timing to ``OUT/runs.jsonl`` and one table to
``OUT/table.md``. What each side runs is in ``ours.py``, ``peer_ferret.py`` and ``peer_interpreto.py``.
"""

import argparse
import json
import subprocess
import sys
import venv
from contextlib import ExitStack
from pathlib import Path

from peers_table import HEAD, NOTES, conditions, lines, peaks
from worker import Json, Worker

from attrlab.bench import data

HERE = Path(__file__).parent

GROUPS = {
    "ferret": (("whole", "shap", "lime", "gradients", "metrics"),),
    "interpreto": (
        ("occlusion",),
        ("lime",),
        ("kernel_shap",),
        ("integrated_gradients",),
        ("deletion",),
        ("insertion",),
    ),
    "": (("engine",),),
}
"""What is timed in one turn, by peer. Nobody has a part like ``engine``: the questions of LIME, and nothing else."""

SHORT = 10
"""Most tokens of a short text, all of whose coalitions are at most 1,024."""


WARMING, WARM = -1, 2
"""Turn before the first, in which libraries are loaded and caches filled, and on how many sentences."""


def environment(out: Path, name: str) -> Path:
    """Returns the Python of a peer's environment, built anew where its pinned versions have changed."""
    folder, pinned = out / f"env-{name}", HERE / f"requirements-{name}.txt"
    python, built = folder / "bin" / "python", folder / "built.txt"
    if not built.is_file() or built.read_text("utf-8") != pinned.read_text("utf-8"):
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-r", str(pinned)], check=True)
        built.write_text(pinned.read_text("utf-8"), "utf-8")
    return python


def requested(ours: Worker, options: argparse.Namespace, kind: str) -> tuple[Json, Json]:
    """Returns the request about real sentences, or short ones, and what is known of the model and the sentences."""
    sentences = [example.texts[0] for example in data.load("sst2", data_dir=options.data_dir).take()]
    if kind == "short":
        few = [text for text in sentences if len(text.split()) <= SHORT]
        units = ours.ask(parts=["describe"], sentences=few)["units"]
        sentences = [text for text, count in zip(few, units, strict=True) if 2 <= count <= SHORT]
    sentences = sentences[: options.examples]
    model = ours.ask(parts=["describe"], sentences=sentences)
    chosen = {"sentences": sentences, "targets": model["targets"]}
    return chosen | {"samples": options.samples, "batch": options.batch}, model


def alternate(sides: dict[str, Worker], peer: str, request: Json, options: argparse.Namespace) -> list[Json]:
    """Runs every group of a peer on all sides, and returns the timings.

    Metrics are given the explanations that the peer found first, so it has the first turn.
    """
    runs: list[Json] = []
    few = {key: value[:WARM] if isinstance(value, list) else value for key, value in request.items()}
    for group in GROUPS[peer]:
        for turn in (WARMING, *range(options.alternations)):
            asked = few if turn == WARMING else request
            for side in [*reversed(sides)] if turn % 2 and turn != WARMING else list(sides):
                timed = sides[side].ask(parts=["rate"]) if side != "peer" and turn != WARMING else {"rate": None}
                parts = sides[side].ask(peer=peer, parts=group, **asked)["parts"]
                asked |= _explanations(parts) if side == "peer" else {}
                one = {"turn": turn, "side": side, "rate": timed["rate"], "examples": len(asked["sentences"])}
                runs += [one | {"part": part} | parts[part] for part in group]
            print(peer, *group, turn, file=sys.stderr, flush=True)
    return [run for run in runs if run["turn"] != WARMING]


def _explanations(parts: Json) -> Json:
    """What metrics are given of the answer of a peer."""
    if "occlusion" in parts:
        return {"scores": parts["occlusion"]["found"]["occlusion"]}
    if "metrics" in parts:
        return {"explanations": {name: scores for part in parts.values() for name, scores in part["found"].items()}}
    return {}


def measure(options: argparse.Namespace) -> str:
    """Returns the table, and writes every timing beside it."""
    pythons = {name: environment(options.out, name) for name in options.peers}
    dtypes = {"ours": "float32"} | ({"ours, bf16 (experimental)": "bfloat16"} if options.dtype == "bf16" else {})
    kinds = [("ferret", "sentences"), ("interpreto", "sentences"), ("interpreto", "short"), ("", "sentences")]
    rows: list[str] = []
    notes: list[str] = []
    with (options.out / "runs.jsonl").open("w", encoding="utf-8") as file:
        for peer, kind in kinds:
            if peer and peer not in pythons:
                continue
            with ExitStack() as stack:
                sides: dict[str, Worker] = {}
                if peer:
                    sides["peer"] = stack.enter_context(Worker(pythons[peer], f"peer_{peer}.py", options))
                for name, dtype in dtypes.items():
                    worker = Worker(Path(sys.executable), "ours.py", options, dtype)
                    sides[name] = stack.enter_context(worker)
                request, model = requested(sides["ours"], options, kind)
                runs = alternate(sides, peer, request, options)
            title = f"{peer}, {kind}" if peer else kind
            rows += lines(title, runs, model)
            notes.append(f"- {title}: {conditions(model, runs)}; peak memory {peaks(sides)}")
            file.writelines(json.dumps({"against": peer, "texts": kind} | run) + "\n" for run in runs)
            file.flush()
    return "\n".join([HEAD, *rows, "", *notes, NOTES])


def main() -> None:
    """Reads the options, builds what is missing, measures and writes the table."""
    parser = argparse.ArgumentParser(description="Benchmark against the peers.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", type=Path, required=True, help="folder of a classifier fine-tuned on SST-2")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--examples", type=int, default=32)
    parser.add_argument("--alternations", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--samples", type=int, default=1000, help="of LIME and Kernel SHAP against interpreto")
    parser.add_argument("--batch", type=int, default=32, help="rows a forward pass of interpreto; its default is 4")
    parser.add_argument("--peers", nargs="*", default=["ferret", "interpreto"], choices=["ferret", "interpreto"])
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "bf16"], help="bf16 adds our side in bfloat16")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    table = measure(options)
    (options.out / "table.md").write_text(table, "utf-8")
    print(table)


if __name__ == "__main__":
    main()
