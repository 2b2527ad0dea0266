"""Removal operators: how a unit is taken out of an input. On ids, never by decoding and tokenizing again."""

from collections.abc import Callable

import numpy as np

from attrlab.bench.batch import Row
from attrlab.bench.model import TextModel
from attrlab.bench.types import Bools, Encoded


def whole(encoded: Encoded) -> Row:
    """Returns the unperturbed input."""
    return Row(encoded.ids, encoded.segments, np.ones(len(encoded.ids), dtype=bool), encoded.marks)


def delete(model: TextModel, encoded: Encoded, stays: Bools) -> Row:
    """Returns the input without the removed ids, the gap closed (metrics spec 0.4, primary).

    With every word removed only special tokens remain; a tokenizer without any gets a single end-of-text token.
    """
    if not stays.any():
        end = model.tokenizer.eos_token_id
        return Row(np.array([model.replace_id if end is None else end]), np.zeros(1, dtype=np.int64), np.ones(1, bool))
    ids = encoded.ids[stays]
    marks = None if encoded.marks is None else encoded.marks[:, stays]
    return Row(ids, encoded.segments[stays], np.ones(len(ids), dtype=bool), marks)


def replace(model: TextModel, encoded: Encoded, stays: Bools) -> Row:
    """Returns the input with the family's replacement token in place of every removed one; the length stays."""
    return whole(encoded)._replace(ids=np.where(stays, encoded.ids, model.replace_id))


OPERATORS: dict[str, Callable[[TextModel, Encoded, Bools], Row]] = {"delete": delete, "replace": replace}
"""Removal operators by name."""


def remove(model: TextModel, encoded: Encoded, keep: Bools, operator: str) -> Row:
    """Returns the input in which only the kept units (and all special tokens) are present.

    Args:
        model: Supplies the replacement token.
        encoded: The example.
        keep: ``(n_units,)`` True for units that stay.
        operator: A name in ``OPERATORS``.
    """
    unit_stays = np.append(keep, True)  # index -1, tokens of no unit, always stays
    return OPERATORS[operator](model, encoded, unit_stays[encoded.units])
