"""The errors a user can cause; everything else keeps its traceback."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave: printed as one line, exit code 2.

    The message names the value, what is allowed and the fix.
    """


class ContractError(Exception):
    """A method or metric broke its contract (wrong shape, NaN, ...): becomes a failed row, never a crash."""


class NotApplicableError(Exception):
    """A method does not apply to this example or model: becomes a row that is skipped with this reason."""


class BudgetExceededError(ContractError):
    """A method spent more than the time it was given for one example."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Returns the error for a name that is not in ``known``, with the nearest name as a hint.

    >>> print(unknown("method", "lyme", ["lime", "shap"]))
    unknown method 'lyme'. Did you mean 'lime'? Known: lime, shap
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return UserError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(names)}")
