"""From stored records to tables and the page; knows no model and imports no torch.

Everything here is a function of a results folder: :func:`read` it, then ask for :func:`records`, a :func:`render`
in some format, or tables for the :func:`terminal`. Importing this module imports none of them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attrlab.leaderboard.board import Board
    from attrlab.leaderboard.console import terminal
    from attrlab.leaderboard.formats import records, render
    from attrlab.leaderboard.load import pack, read

__all__ = ["Board", "pack", "read", "records", "render", "terminal"]

# No module here is called like what it offers: importing it would hide that behind the module.
_WHERE = {
    "Board": "board",
    "pack": "load",
    "read": "load",
    "records": "formats",
    "render": "formats",
    "terminal": "console",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
