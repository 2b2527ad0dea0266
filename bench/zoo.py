"""The nine models as data, and the small geometry derived from each by one rule."""

from dataclasses import dataclass
from typing import Any, Literal

Family = Literal["bert", "gpt2", "opt"]

DEPTH_RATIO, WIDTH_RATIO, HEAD_RATIO = 6, 16, 4
"""A mini has a sixth of the layers, a sixteenth of the width and a quarter of the heads."""

MINI_SUFFIX = "-mini"


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuning:
    """How a checkpoint is fine-tuned (methods spec 11.1): AdamW, linear schedule, batch 32, seed 42."""

    learning_rate: float
    epochs: int
    evaluate_every: int = 1000
    batch_size: int = 32
    seed: int = 42


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """One architecture of the zoo.

    Attributes:
        repo: Hugging Face id of the pre-trained checkpoint.
        family: Architecture family, which settles padding, pooling and the replacement token.
        parameters: Published number of parameters.
        layers: Number of blocks.
        width: Width of the residual stream.
        heads: Attention heads.
        embedding_width: Width of the word embeddings where it differs (OPT-350M projects 512 to 1024), else 0.
        post_norm: LayerNorm after the residual sum inside decoder blocks (OPT-350M).
        fine_tuning: Its row of the fine-tuning table.
        revision: Commit of the repository to load.
        pickled: The repository holds `pytorch_model.bin` only; read with ``weights_only=True``.
        pad: Id policy for padding: the family's own pad token, or eos under an explicit attention mask.
        replace: Token put in place of a removed one (methods spec 0.3).
    """

    repo: str
    family: Family
    parameters: int
    layers: int
    width: int
    heads: int
    embedding_width: int = 0
    post_norm: bool = False
    fine_tuning: FineTuning
    revision: str
    pickled: bool = False
    pad: Literal["pad token", "eos, masked"] = "pad token"
    replace: Literal["mask token", "space token"] = "space token"

    @property
    def name(self) -> str:
        """Short name, as in ``gpt2-medium``."""
        return self.repo.rpartition("/")[2]

    @property
    def mini(self) -> str:
        """Name of the small version, as in ``bert-base-mini``."""
        return self.name.removesuffix("-uncased") + MINI_SUFFIX

    def mini_geometry(self) -> dict[str, int]:
        """Returns layers, width, heads and embedding width of the mini."""
        width = self.width // WIDTH_RATIO
        heads = next(n for n in range(max(1, self.heads // HEAD_RATIO), 0, -1) if width % n == 0)
        return {
            "layers": self.layers // DEPTH_RATIO,
            "width": width,
            "heads": heads,
            "embedding_width": self.embedding_width // WIDTH_RATIO,
        }


def _bert(size: str, parameters: int, layers: int, width: int, rate: float, **more: Any) -> ModelInfo:
    return ModelInfo(
        repo=f"google-bert/bert-{size}-uncased",
        family="bert",
        parameters=parameters,
        layers=layers,
        width=width,
        heads=width // 64,
        fine_tuning=FineTuning(learning_rate=rate, epochs=5),
        replace="mask token",
        **more,
    )


def _gpt2(name: str, parameters: int, layers: int, width: int, rate: float, **more: Any) -> ModelInfo:
    return ModelInfo(
        repo=f"openai-community/{name}",
        family="gpt2",
        parameters=parameters,
        layers=layers,
        width=width,
        heads=width // 64,
        fine_tuning=FineTuning(learning_rate=rate, epochs=5),
        pad="eos, masked",
        **more,
    )


def _opt(size: str, parameters: int, layers: int, width: int, rate: float, **more: Any) -> ModelInfo:
    return ModelInfo(
        repo=f"facebook/opt-{size}",
        family="opt",
        parameters=parameters,
        layers=layers,
        width=width,
        heads=width // 64,
        fine_tuning=FineTuning(learning_rate=rate, epochs=5),
        pickled=True,
        **more,
    )


ZOO: tuple[ModelInfo, ...] = (
    _bert("base", 110_000_000, 12, 768, 1e-5, revision="86b5e0934494bd15c9632b12f734a8a67f723594"),
    _bert("large", 340_000_000, 24, 1024, 5e-6, revision="6da4b6a26a1877e173fca3225479512db81a5e5b"),
    _gpt2("gpt2", 124_000_000, 12, 768, 1e-5, revision="607a30d783dfa663caf39e06633721c8d4cfcd7e"),
    _gpt2("gpt2-medium", 355_000_000, 24, 1024, 5e-6, revision="6dcaa7a952f72f9298047fd5137cd6e4f05f41da"),
    _gpt2("gpt2-large", 774_000_000, 36, 1280, 3e-6, revision="32b71b12589c2f8d625668d2335a01cac3249519"),
    _gpt2("gpt2-xl", 1_558_000_000, 48, 1600, 1e-6, revision="15ea56dee5df4983c59b2538573817e1667135e2"),
    _opt("125m", 125_000_000, 12, 768, 1e-5, revision="27dcfa74d334bc871f3234de431e71c6eeba5dd6"),
    _opt(
        "350m",
        331_000_000,
        24,
        1024,
        5e-6,
        revision="08ab08cc4b72ff5593870b5d527cf4230323703c",
        embedding_width=512,
        post_norm=True,
    ),
    _opt("1.3b", 1_316_000_000, 24, 2048, 1e-6, revision="3f5c25d0bc631cb57ac65913f76e22c2dfb61d62"),
)
"""The nine models, in the order of every table."""

BY_REPO = {info.repo: info for info in ZOO}
BY_MINI = {info.mini: info for info in ZOO}

WIRED = ("bert-wired", "gpt2-wired")
"""Models whose weights are set by hand; see ``bench.wired``."""
