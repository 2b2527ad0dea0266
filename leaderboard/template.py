"""Fills a template of ``page/`` into one self-contained HTML file."""

import base64
import hashlib
from importlib.resources import files
from typing import Any

from jinja2 import BaseLoader, Environment, StrictUndefined
from markupsafe import Markup


def fill(name: str, **values: Any) -> str:
    """Returns a template with the common style and script in it, and the values where it names them, escaped."""
    environment = Environment(
        loader=BaseLoader(), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    script = _part("page.js")
    # Only this very script may run: what is untrusted is escaped, and could not run even if it were not.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.from_string(_part(name)).render(
        style=Markup(_part("page.css")), script=Markup(script), script_hash=f"sha256-{digest}", **values
    )


def _part(name: str) -> str:
    return (files("attrlab.leaderboard") / "page" / name).read_text(encoding="utf-8")
