"""Token distribution dynamics: what every further token does to the answer of a causal model (methods spec 8).

The relevance of a text is ``r = p(target) - p(others)``, and a token is worth what it changes when it joins the text.
Forward, the text grows to the right: in a causal model the last states of all beginnings come from one forward pass.
Backward, it grows to the left: every end of the text is run by itself, its positions counted from 0.

Feng et al. 2024, "Unveiling and Manipulating Prompt Influence in Large Language Models", arXiv 2405.11891.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from attrlab.bench.batch import Batch, Explained, Targets
from attrlab.bench.errors import NotApplicableError
from attrlab.bench.model import TextModel
from attrlab.bench.types import Ask, Asker, Floats, Game
from attrlab.methods.noise import in_blocks

Relevance = Callable[[Tensor, Tensor], Tensor]
"""Maps rows (R,) of a batch and last states (R, P, D) to relevances (R, P), float64 in [-1, 1]."""


class _Dynamics:
    """Both directions; a text's relevance is the same in both.

    Args:
        full: Probabilities over all the vocabulary of a language model, those of several foils added up. Otherwise over
            the answers alone (first tokens of continuation and foils; classes), and the mean of the others.
        subtract_prior: Where nothing has joined yet, take the relevance of a beginning-of-text token, if the model has
            one. Otherwise take 0: the first token to join is credited with the model's prior.
    """

    aggregate = "sum"
    rows = 1

    def __init__(self, *, full: bool = False, subtract_prior: bool = False) -> None:
        self.full = full
        self.subtract_prior = subtract_prior

    @torch.no_grad()
    def attribute(
        self, model: TextModel, batch: Batch, targets: Targets, rngs: Sequence[np.random.Generator]
    ) -> Explained:
        """Returns what each token adds to the relevance, (B, L), in [-2, 2], whatever the scalar of ``targets``.

        Over all tokens up to the pooling position, special ones included, it adds up to the relevance of the text, less
        the prior's if that is subtracted.

        Raises:
            NotApplicableError: If the model is not causal, or an example has no foil and ``full`` is off.
        """
        if not model.decoder:
            raise NotApplicableError(
                "TDD needs a causal model: every state of an encoder sees the whole text; truncation_prefix and "
                "truncation_suffix run shortened texts instead"
            )
        relevance = _relevance(model, batch, targets.classes[batch.owners], self.full)
        prior = torch.zeros(len(batch), dtype=torch.float64, device=batch.ids.device)
        if self.subtract_prior and model.tokenizer.bos_token_id is not None:
            prior = _prior(model, batch, relevance)
        return Explained(self._scores(model, batch, relevance, prior))

    def _scores(self, model: TextModel, batch: Batch, relevance: Relevance, prior: Tensor) -> Tensor:
        return (_forward(model, batch, relevance, prior) + _backward(model, batch, relevance, prior)) / 2


class TddForward(_Dynamics):
    """Attributes by ``r(x_1 .. x_i) - r(x_1 .. x_(i-1))``, the change when a token follows (methods spec 8; signed).

    Args:
        full: Probabilities over all the vocabulary, else over the answers alone; see ``_Dynamics``.
        subtract_prior: Do not credit the first token with the model's prior.
    """

    def _scores(self, model: TextModel, batch: Batch, relevance: Relevance, prior: Tensor) -> Tensor:
        return _forward(model, batch, relevance, prior)


class TddBackward(_Dynamics):
    """Attributes by ``r(x_i .. x_n) - r(x_(i+1) .. x_n)``, the change when a token is put in front (spec 8; signed).

    Args:
        full: Probabilities over all the vocabulary, else over the answers alone; see ``_Dynamics``.
        subtract_prior: Do not credit the last token with the model's prior.
    """

    def _scores(self, model: TextModel, batch: Batch, relevance: Relevance, prior: Tensor) -> Tensor:
        return _backward(model, batch, relevance, prior)


class TddBidirectional(_Dynamics):
    """Attributes by the mean of both directions of token distribution dynamics (methods spec 8; signed).

    Args:
        full: Probabilities over all the vocabulary, else over the answers alone; see ``_Dynamics``.
        subtract_prior: Do not credit the first and the last token with the model's prior.
    """


def _relevance(model: TextModel, batch: Batch, classes: Tensor, full: bool) -> Relevance:
    def relevance(rows: Tensor, states: Tensor) -> Tensor:
        answers = model.answers(batch.take(rows), states).double()
        if full:
            columns = [model.head(states[:, at]).double().logsumexp(-1) for at in range(states.shape[1])]
            shares = (answers - torch.stack(columns, 1)[..., None]).exp()
        elif answers.isneginf().any():
            raise NotApplicableError("TDD compares with a foil and there is none; give one, or full=true")
        else:
            shares = answers.softmax(-1)
        chosen = shares.gather(-1, classes[rows][:, None, None].expand(-1, shares.shape[1], 1))[..., 0]
        others = shares.sum(-1) - chosen
        return chosen - (others if full else others / (shares.shape[-1] - 1))

    return relevance


def _forward(model: TextModel, batch: Batch, relevance: Relevance, prior: Tensor) -> Tensor:
    rows = torch.arange(len(batch), device=batch.ids.device)
    (found,) = in_blocks(batch, rows, lambda part, at: (relevance(at, _states(model, part)),))
    changes = torch.diff(found, prepend=prior[:, None])
    return changes.masked_fill(_positions(batch) > model.pool(batch)[:, None], 0)


def _backward(model: TextModel, batch: Batch, relevance: Relevance, prior: Tensor) -> Tensor:
    last = model.pool(batch)
    rows, starts = (_positions(batch) <= last[:, None]).nonzero(as_tuple=True)

    def run(part: Batch, at: Tensor) -> tuple[Tensor]:
        ends = _ends(part, starts[at], last[rows[at]])
        states = _states(model, ends)[torch.arange(len(at), device=at.device), ends.last]
        return (relevance(rows[at], states[:, None])[:, 0],)

    found = prior.new_zeros(len(batch), batch.ids.shape[1] + 1)
    (found[rows, starts],) = in_blocks(batch, rows, run)
    found[torch.arange(len(batch), device=rows.device), last + 1] = prior
    return -torch.diff(found).masked_fill(_positions(batch) > last[:, None], 0)


def _prior(model: TextModel, batch: Batch, relevance: Relevance) -> Tensor:
    """Returns the relevance (B,) of a beginning-of-text token alone."""

    def run(part: Batch, at: Tensor) -> tuple[Tensor]:
        first = torch.zeros_like(part.last)
        alone = _ends(replace(part, offset=None), first, first)
        alone.ids[:, 0] = model.tokenizer.bos_token_id
        return (relevance(at, _states(model, alone)[:, :1])[:, 0],)

    return in_blocks(batch, torch.arange(len(batch), device=batch.ids.device), run)[0]


def _ends(batch: Batch, starts: Tensor, last: Tensor) -> Batch:
    """Returns the tokens ``starts`` .. ``last`` of every row, moved to the front."""
    moved = (_positions(batch) + starts[:, None]).clamp(max=batch.ids.shape[1] - 1)
    inside = _positions(batch) <= (last - starts)[:, None]
    offset = batch.offset
    if offset is not None:
        offset = offset.gather(1, moved[..., None].expand_as(offset))
    return replace(
        batch,
        ids=batch.ids.gather(1, moved),
        segments=batch.segments.gather(1, moved),
        mask=inside.to(batch.mask),
        scorable=batch.scorable.gather(1, moved) & inside,
        last=last - starts,
        offset=offset,
    )


def _states(model: TextModel, batch: Batch) -> Tensor:
    """Returns the last states (R, L, D), as the head reads them, and counts the rows."""
    states: Tensor = model.backbone(batch).last_hidden_state
    model.count(batch, states)
    return states


def _positions(batch: Batch) -> Tensor:
    return torch.arange(batch.ids.shape[1], device=batch.ids.device).expand_as(batch.ids)


class TruncationPrefix:
    """Attributes by the change of relevance when a unit follows those before it, each beginning a text of its own.

    It is what is left of TDD where states see the whole text (methods spec 8, an extension): any model, its special
    tokens kept, rest of the text deleted. Signed, deterministic; asks m questions, one more to subtract the prior.

    Args:
        subtract_prior: Do not credit the first unit with the relevance of no text.
    """

    def __init__(self, *, subtract_prior: bool = False) -> None:
        self.subtract_prior = subtract_prior

    def ask(self, game: Game, rng: np.random.Generator) -> Asker[Floats]:
        """Returns scores ``(m,)``, whatever the scalar; positive means the unit supports the target."""
        return (yield from _growing(game, slice(None), self.subtract_prior))


class TruncationSuffix:
    """Attributes by the change of relevance when a unit is put in front; else as ``TruncationPrefix``.

    Args:
        subtract_prior: Do not credit the last unit with the relevance of no text.
    """

    def __init__(self, *, subtract_prior: bool = False) -> None:
        self.subtract_prior = subtract_prior

    def ask(self, game: Game, rng: np.random.Generator) -> Asker[Floats]:
        """Returns scores ``(m,)``, whatever the scalar; positive means the unit supports the target."""
        return (yield from _growing(game, slice(None, None, -1), self.subtract_prior))


def _growing(game: Game, order: slice, subtract_prior: bool) -> Asker[Floats]:
    """Asks about texts to which one unit after the other is added, in the given order."""
    keep = np.tri(game.n_units + 1, game.n_units, -1, dtype=bool)[:, order]
    logits = yield Ask(keep=keep[0 if subtract_prior else 1 :], operator="delete")
    shares = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    chosen = shares[:, game.target]
    relevance = chosen - (shares.sum(1) - chosen) / (shares.shape[1] - 1)
    before = [] if subtract_prior else [0.0]
    return np.asarray(np.diff(np.append(before, relevance))[order])
