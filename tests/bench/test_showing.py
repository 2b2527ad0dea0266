"""``attrlab explain``: all methods on one text, in the terminal and as HTML."""

import shutil
from pathlib import Path

import plugins

from attrlab.bench.registry import METHODS

CHEAP = ("--method", "leave_one_out", "--method", "saliency")


def test_all_methods_stand_side_by_side(attrlab, monkeypatch, tmp_path):
    called = attrlab("explain", attrlab.model, "not good")
    assert (called.code, called.err) == (0, "")
    page = (tmp_path / "explanation.html").read_text("utf-8")
    for name in METHODS.entries():
        assert name in called.out
        assert name in page
    causal = [name for name, facts in METHODS.entries().items() if "causal" in facts.needs]
    assert called.out.count("does not apply: TDD needs a causal model") == len(causal)
    skipped = called.out.count("does not apply: ")
    assert skipped == len(causal) + len(["g_avg", "mask_lrp"])  # no embedding without LayerNorm, no calibration texts
    assert called.out.count("not good") == len(METHODS.entries()) - skipped
    assert "failed" not in called.out
    assert called.out.splitlines()[-1] == "the same as HTML: explanation.html"


def test_text_is_escaped_and_not_read_as_markup(attrlab, tmp_path):
    text = "<script>alert(1)</script> [bold]loud[/bold] & [/]"
    called = attrlab("explain", attrlab.model, text, *CHEAP, "--html", "page.html")
    assert called.code == 0
    assert text in called.out
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "[bold]loud[/bold]" in page
    assert "&amp;" in page


def test_pair_of_texts_and_one_word(attrlab):
    assert "who came he did" in attrlab("explain", attrlab.model, "who came", "--pair", "he did", *CHEAP).out
    assert attrlab("explain", attrlab.model, "Brilliant", *CHEAP).code == 0


def test_broken_method_is_shown_as_failed_beside_the_others(attrlab, tmp_path):
    name = shutil.copy(Path(plugins.__file__), tmp_path / "mine.py").name
    called = attrlab("explain", attrlab.model, "not good", *CHEAP, "--method", f"{name}:Shape")
    assert called.code == 0
    assert called.out.count("not good") == 2
    assert "failed: returned scores of shape (3,)" in called.out


def test_page_that_cannot_be_written(attrlab, tmp_path):
    (tmp_path / "file").write_text("x")
    assert (
        "cannot write 'file/page.html'"
        in attrlab("explain", attrlab.model, "good", *CHEAP, "--html", "file/page.html").message
    )
