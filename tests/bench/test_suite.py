"""Suite files: what is accepted, and what is refused with file, line and key."""

import pytest

from attrlab.bench import suite
from attrlab.bench.errors import UserError
from attrlab.bench.registry import METHODS, METRICS


def test_shipped_suites_name_only_what_exists():
    for name in suite.shipped():
        found = suite.load(name)
        assert found.name == name
        assert found.title
        for method in found.methods:
            METHODS.find(method).build()
        for metric in found.metrics:
            METRICS.find(metric).build()


def test_values_of_a_file_and_their_defaults(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('title = "T"\nmodels = ["m"]\nlimit = 3\n[re_explain]\nseeds = 5\n[explain]\nscalar = "logit"\n')
    found = suite.load(str(path))
    assert (found.name, found.title, found.models, found.datasets, found.limit) == ("mine", "T", ["m"], [], 3)
    assert (found.re_explain.seeds, found.re_explain.examples) == (5, 8)
    assert (found.explain.scalar, found.explain.operator) == ("logit", "replace")


def test_adhoc_starts_empty():
    found = suite.load("adhoc")
    assert (found.models, found.datasets, found.methods, found.metrics) == ([], [], [], [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a = 1\nb = = 2\n", "line 2: malformed TOML: Invalid value; the line is 'b = = 2'"),
        ("a = 1\nmodels = [\n\n", "line 2: malformed TOML: Invalid value; the line is 'models = ['"),
        ("limit = 1\nlimit = 2", "line 2: malformed TOML: Cannot overwrite a value"),
        ("title = 'x'\nmodls = []", "line 2: unknown key 'modls'. Did you mean 'models'?"),
        ("[re_explain]\nseedz = 3", "line 2: unknown key 're_explain.seedz'. Did you mean 're_explain.seeds'?"),
        ("title = 'x'\n\nlimit = 'many'", "line 3: key 'limit': Input should be a valid integer"),
        ("limit = 0", "line 1: key 'limit': Input should be greater than or equal to 1; got 0"),
        ("unit = 'sentence'", "line 1: key 'unit': Input should be 'word' or 'token'; got 'sentence'"),
        ("models = ['m', 3]", "line 1: key 'models.1': Input should be a valid string; got 3"),
        ("[[models]]\na = 1", "line 1: key 'models.0'"),
        ("methods = 'lime'", "line 1: key 'methods': Input should be a valid list; got 'lime'"),
        ("operators = []", "line 1: key 'operators'"),
        ("seed = 1\n[explain]\nscalar = 'x'", "line 3: key 'explain.scalar'"),
        ("re_explain.seeds = 1", "line 1: key 're_explain.seeds'"),
        ("\nre_explain = {seeds = 1}", "line 2: key 're_explain.seeds'"),
        (b"title = '\xff'", "not UTF-8 at byte 9"),
    ],
)
def test_refused_files(tmp_path, content, message):
    path = tmp_path / "mine.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as refused:
        suite.load(str(path))
    assert str(refused.value).startswith(str(path))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UserError, match="no such suite file"):
        suite.load(str(tmp_path / "nowhere.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(UserError, match="cannot read suite"):
        suite.load(str(tmp_path / "folder.toml"))


def test_given_options_replace_and_absent_ones_do_not():
    base = suite.load("demo")
    changed = suite.override(base, methods=["lime"], metrics=None, models=[], limit=7)
    assert (changed.methods, changed.limit) == (["lime"], 7)
    assert (changed.metrics, changed.models, changed.seed) == (base.metrics, base.models, base.seed)
