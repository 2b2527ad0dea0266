"""The last block computed where the head reads answers as the whole block does, and runs no more than that."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from attrlab.bench import states, testing
from attrlab.bench.attending import Record, attending
from attrlab.bench.batch import LEAST_TOKENS, Batch
from attrlab.bench.engine import Engine, Job
from attrlab.bench.model import TextModel
from attrlab.bench.pooled import applies, pooled
from attrlab.bench.prefix import Prefixes
from attrlab.bench.removal import remove, whole
from attrlab.bench.session import Options, Session
from attrlab.bench.shortcuts import Shortcuts
from attrlab.bench.testing import examples
from attrlab.bench.types import Ask
from attrlab.bench.zoo import BY_MINI

tiny = partial(testing.tiny, sharpness=testing.SHARPNESS)
each_mini = pytest.mark.parametrize("name", list(BY_MINI))
each_type = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])

CLOSE = {torch.float32: 1e-5, torch.float64: 1e-12}


def of_type(name: str, dtype: torch.dtype) -> TextModel:
    model = tiny(name)
    return TextModel(deepcopy(model.network).to(dtype), model.tokenizer, name)


def batches(model: TextModel) -> Iterator[Batch]:
    """Whole texts, pairs, texts of one length without padding, units taken out, and units that nobody may look at."""
    for pairs in (False, True):
        coded = [model.encode(example) for example in examples(pairs=pairs)]
        yield model.collate([whole(one) for one in coded], length=24)
        yield model.collate([whole(coded[0])] * 3)
        for operator in ("delete", "attn", "mean"):
            rng = np.random.default_rng(0)
            for share in (0.5, 0.0):
                keeps = [rng.random(one.n_units) < share for one in coded]
                left = zip(coded, keeps, strict=True)
                yield model.collate([remove(model, one, keep, operator) for one, keep in left])


@contextmanager
def tokens_of_last_block(model: TextModel) -> Iterator[list[int]]:
    """Notes how many tokens the feed-forward part of the last block is given."""
    block: Any = states.blocks(model)[-1]
    part = {"bert": "intermediate", "gpt2": "mlp", "opt": "fc1"}[model.network.config.model_type]
    found: list[int] = []
    hook = getattr(block, part).register_forward_pre_hook(
        lambda _module, args: found.append(args[0].numel() // args[0].shape[-1])
    )
    try:
        yield found
    finally:
        hook.remove()


@each_mini
@each_type
@torch.no_grad()
def test_logits_and_readout_are_those_of_the_whole_block(name: str, dtype: torch.dtype) -> None:
    model, spread = of_type(name, dtype), 0.0
    for batch in batches(model):
        expected = model.forward(batch)
        with pooled(model, model.pool(batch)), tokens_of_last_block(model) as tokens:
            found = model.forward(batch)
        assert tokens == [len(batch)]
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, atol=CLOSE[dtype], rtol=CLOSE[dtype])
        spread = max(spread, float(expected.logits.std(0).max()))
    assert spread > 0.01, "answers that never change prove nothing"


@each_mini
@torch.no_grad()
def test_what_it_does_ends_with_the_block(name: str) -> None:
    model = tiny(name)
    batch = next(batches(model))
    before = model.forward(batch).logits
    with pytest.raises(ZeroDivisionError), pooled(model, model.pool(batch)):
        raise ZeroDivisionError
    with tokens_of_last_block(model) as tokens:
        assert torch.equal(model.forward(batch).logits, before)
    assert tokens == [batch.ids.numel()]


@torch.no_grad()
def test_a_model_whose_attention_is_looked_into_is_left_alone() -> None:
    model = tiny("bert-base-mini")
    batch, record = next(batches(model)), Record()
    with attending(model, record):
        assert not applies(model)
        with pooled(model, model.pool(batch)):
            model.forward(batch)
    assert {weights.shape[2] for weights in record.layers} == {batch.ids.shape[1]}


@torch.no_grad()
def test_other_models_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = of_type("bert-base-mini", torch.float32)
    assert applies(model)
    monkeypatch.setattr(model.network.config, "model_type", "distilbert")
    assert not applies(model)
    monkeypatch.undo()

    class Other(TextModel):
        def forward(self, *args: Any, **options: Any) -> Any:
            return super().forward(*args, **options)

    assert not applies(Other(model.network, model.tokenizer, "reads elsewhere"))


@pytest.mark.parametrize("narrow", [True, False])
def test_blocks_of_shared_beginnings_are_narrowed_as_well(narrow: bool) -> None:
    model = tiny("opt-125m-mini")
    coded = [model.encode(example) for example in examples()]
    prefixes = Prefixes(model, 64, last_block=narrow)
    with tokens_of_last_block(model) as tokens:
        prefixes.logits([whole(one) for one in coded])
    assert set(tokens) == ({64 // 8} if narrow else {64})


@pytest.mark.parametrize("narrow", [True, False])
def test_the_engine_does_so_unless_told_not_to(narrow: bool) -> None:
    model = tiny("gpt2-mini")
    coded = [model.encode(example) for example in examples()]

    def asker(units: int) -> Any:
        return (yield Ask(keep=np.eye(units, dtype=bool)))

    jobs = [Job(slot=slot, asker=asker(one.n_units), operator="replace") for slot, one in enumerate(coded)]
    with tokens_of_last_block(model) as tokens, torch.inference_mode():
        Engine(model, coded, shortcuts=Shortcuts(last_block=narrow)).run(jobs)
    assert all(job.error is None for job in jobs)
    assert (min(tokens) < LEAST_TOKENS) is narrow, "a pass has at least so many tokens"
    assert Options().shortcuts.last_block
    session: Any = SimpleNamespace(
        block=SimpleNamespace(checkpoint=None),
        plan=SimpleNamespace(suite=SimpleNamespace(unit="word", precision="float32")),
        options=Options(shortcuts=Shortcuts(last_block=narrow)),
        _answers=None,
    )
    session._answering = partial(Session._answering, session)
    assert Session.new_engine(session, model, examples()).shortcuts.last_block is narrow
