"""What the command line refuses, in one line with exit code 2, and what it prints."""

import json
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest
from cliruns import save_model

RANDOM = ("--method", "random")


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        (["run", "demoo"], "unknown suite 'demoo'. Did you mean 'demo'?"),
        (["run", "adhoc", "--method", "lyme"], "unknown method 'lyme'. Did you mean 'lime'?"),
        (["run", "adhoc", "--metric", "suficiency"], "unknown metric 'suficiency'. Did you mean 'sufficiency'?"),
        (["run", "adhoc", "--method", "lime:sample=3"], "unknown parameter of lime 'sample'. Did you mean 'samples'?"),
        (["list", "method"], "unknown listing 'method'. Did you mean 'methods'?"),
        (["check", "lyme"], "Did you mean 'lime'?"),
        (["explain", "gpt2-mni", "good"], "unknown model 'gpt2-mni'. Did you mean 'gpt2-mini'?"),
        (["train", "gpt2-mini", "lexicn", "--out", "x"], "unknown data set 'lexicn'. Did you mean 'lexicon'?"),
    ],
)
def test_unknown_names_come_with_the_nearest_one(attrlab, arguments, near):
    assert near in attrlab(*arguments).message


def test_unknown_model_data_set_part_and_format_of_a_run(attrlab):
    assert "Did you mean 'bert-base-mini'?" in attrlab.run("o", *RANDOM, model="bert-base-mni").message
    assert "Did you mean 'lexicon'?" in attrlab.run("o", *RANDOM, dataset="lexicn").message
    assert (
        "unknown part of lexicon 'tst'. Did you mean 'test'?"
        in attrlab.run("o", *RANDOM, dataset="lexicon:tst").message
    )
    assert attrlab.run("o", *RANDOM, "--metric", "forwards").code == 0
    assert "Did you mean 'json'?" in attrlab("table", "o", "--format", "jsn").message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--limit", "0"], "--limit: Input should be greater than or equal to 1; got 0"),
        (["--limit", "few"], "'--limit'"),
        (["--seed", "-1"], "--seed"),
        (["--timeout", "0"], "--timeout 0: give a number of seconds above 0"),
        (["--timeout", "-1"], "--timeout -1"),
        (["--timeout", "nan"], "--timeout nan"),
        (["--timeout", "inf"], "--timeout inf"),
        (["--workers", "-1"], "'--workers'"),
        (["--token-budget", "-1"], "'--token-budget'"),
        (["--device", "banana"], "no such device: 'banana'; --device here is one of: cpu"),
        (["--device", "cuda:99"], "no such device: 'cuda:99'"),
        (["--device", "meta"], "no such device: 'meta'"),
        (["--bogus"], "--bogus"),
        (["--method", "lime:samples"], "'lime:samples' is not of the form lime:param=value"),
        (["--method", "lime:samples=x"], "samples='x' is not a whole number"),
        (["--method", "lime:samples=-5"], "samples=-5"),
        (["--method", "integrated_gradients:steps=0"], "steps=0"),
        (["--method", "nowhere.py:Mine"], "no such file: 'nowhere.py'"),
        (["--method", "no_such_package.part:Mine"], "cannot import 'no_such_package.part'"),
        (["--data-dir", "nowhere"], "no such data folder: 'nowhere'"),
    ],
)
def test_bad_option_values(attrlab, options, message):
    assert (
        message in attrlab.run("o", *RANDOM, *options, dataset="sst2" if "--data-dir" in options else "lexicon").message
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bogus"], "bogus"),
        (["run"], "suite"),
        (["run", "adhoc"], "no model is named; add --model NAME"),
        (["check"], "or give --all"),
        (["check", "lime", "--all"], "or give --all"),
        (["table", "nowhere"], "no such results folder: 'nowhere'"),
        (["train", "gpt2-mini", "lexicon"], "out"),
        (["train", "./nowhere", "lexicon", "--out", "x"], "no such model folder"),
        (["train", "gpt2-mini", "lexicon", "--out", "x", "--device", "banana"], "no such device"),
        (["train", "gpt2-mini", "fair_rationales", "--out", "x"], "--data-dir"),
        (["explain", "gpt2-mini", ""], "the text is empty"),
        (["explain", "gpt2-mini", " \t\n"], "the text is empty"),
        (["explain", "gpt2-mini", "good", "--pair", ""], "the text is empty"),
    ],
)
def test_bad_commands(attrlab, arguments, message):
    assert message in attrlab(*arguments).message


def test_models_that_cannot_be_used(attrlab, tmp_path):
    assert "no such model folder: './nowhere'" in attrlab.run("o", *RANDOM, model="./nowhere").message
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in attrlab.run("o", *RANDOM, model="./empty").message
    one = save_model(tmp_path / "one", labels=("only",))
    assert "label 1 is out of range" in attrlab.run("o", *RANDOM, model=one).message
    assert "1 output; a classifier needs at least two" in attrlab("explain", one, "good").message
    named = save_model(tmp_path / "named", labels=("bad", "good"))
    assert "label 'negative' of data set 'lexicon:test' is absent" in attrlab.run("o", *RANDOM, model=named).message
    (named / "tokenizer.json").unlink()
    assert "tokenizer" in attrlab("explain", named, "good").message
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{}")
    (tmp_path / "broken" / "model.safetensors").write_text("no weights")
    assert "is not a safetensors file" in attrlab.run("o", *RANDOM, model="./broken").message


def test_hub_that_cannot_be_reached_is_one_quick_line(attrlab):
    start = time.monotonic()
    message = attrlab.run("o", *RANDOM, model="nobody/nothing").message
    assert time.monotonic() - start < 15
    assert "model 'nobody/nothing' is neither a local folder nor on a reachable hub" in message


def test_output_that_cannot_be_written(attrlab, tmp_path):
    (tmp_path / "file").write_text("x")
    assert "cannot write 'file'" in attrlab.run("file", *RANDOM).message
    assert "cannot write 'file/below'" in attrlab.run("file/below", *RANDOM).message
    assert "no such results folder: 'file'" in attrlab("table", "file").message
    (tmp_path / "empty").mkdir()
    assert "has no run.json" in attrlab("table", "empty").message


def test_folder_that_another_process_writes_to(attrlab, tmp_path):
    (tmp_path / "o").mkdir()
    with filelock.FileLock(tmp_path / "o" / ".lock"):
        assert "another process is writing to 'o'" in attrlab.run("o", *RANDOM).message
    assert attrlab.run("o", *RANDOM).code == 0


@pytest.mark.parametrize(
    ("dataset", "file", "content", "message"),
    [
        ("sst2", "dev.tsv", b"sentence\tlabel\ngood\t1\nbad\t2\n", "dev.tsv, line 3: label '2' is not one of 'sst2'"),
        ("sst2", "dev.tsv", b"sentence\tlabel\ng\xffod\t1\n", "dev.tsv: not UTF-8 at byte 16"),
        (
            "tweet_sentiment_extraction:train",
            "train.csv",
            b"text,textID,sentiment,start,end\nnice,t7,positive,0,99\n",
            "train.csv, row 1: example 't7': rationale span [0, 99) is outside the text of 4 characters",
        ),
        (
            "eraser_movies",
            "test.jsonl",
            json.dumps({"text": "a b", "id": "x", "label": "POS", "rationale_spans": [[1, 9]]}).encode(),
            "test.jsonl, line 1: rationale span [1, 9) is outside the text of 2 words",
        ),
    ],
)
def test_broken_data_files(attrlab, tmp_path, dataset, file, content, message):
    folder = tmp_path / "data" / dataset.partition(":")[0]
    folder.mkdir(parents=True)
    (folder / file).write_bytes(content)
    assert message in attrlab.run("o", *RANDOM, "--data-dir", "data", dataset=dataset).message


def test_interrupt_is_exit_code_130(attrlab, monkeypatch):
    def interrupted(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("attrlab.bench.plan.make", interrupted)
    called = attrlab.run("o", *RANDOM)
    assert called.code == 130
    assert called.err == "interrupted; run the same command again to go on\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["run", "--help"], ["explain", "--help"]])
def test_help(attrlab, arguments):
    called = attrlab(*arguments)
    assert called.code == 0
    assert "Usage: attrlab" in called.out
    assert not called.err


def test_dry_run_prints_the_cells_and_writes_nothing(attrlab, tmp_path):
    called = attrlab.run(
        "o", *RANDOM, "--method", "lime:samples=50", "--metric", "noise_stability", "--dry-run", limit=3
    )
    assert called.code == 0
    rows = [line.split("│")[1:-1] for line in called.out.splitlines() if "│" in line]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert [row[2:] for row in cells] == [["3", "random", "0", "0"], ["3", "lime:samples=50", "150", "0"]]
    assert called.out.count("skipped:") == 1
    assert "(all methods)" in " ".join(called.out.split())
    assert "the method reads token ids" in called.out
    assert "2 cells, 150 forwards; roughly" in " ".join(called.out.split())
    assert list(tmp_path.iterdir()) == []


LISTED = {
    "methods": ["integrated_gradients", "Sundararajan", "path"],
    "metrics": ["comprehensiveness", "lower ↓", "[0, 1]"],
    "models": ["opt-350m-mini", "facebook/opt-350m", "331 M"],
    "datasets": ["lexicon", "sst2", "embedded", "negative/positive"],
    "suites": ["demo", "adhoc", "9 models"],
}


@pytest.mark.parametrize("what", LISTED)
def test_listings_show_facts(attrlab, what):
    called = attrlab("list", what)
    assert called.code == 0
    assert [fact for fact in LISTED[what] if fact not in called.out] == []


def test_the_card_of_one_metric_and_one_method(attrlab):
    card = attrlab("list", "tau_loo")
    assert card.code == 0
    assert all(fact in card.out for fact in ("higher is better", "yes", "-1.0, 1.0", "m + 1", "Jain and Wallace"))
    assert "trains" not in card.out
    assert "Ribeiro" in attrlab("list", "lime").out


def test_list_without_a_name_shows_all(attrlab):
    called = attrlab("list")
    assert called.code == 0
    assert all(facts[0] in called.out for facts in LISTED.values())


def test_one_subprocess_ends_like_the_call_in_process(tmp_path):
    command = [str(Path(sys.executable).parent / "attrlab"), "run", "demoo"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: unknown suite 'demoo'")
