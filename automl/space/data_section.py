"""The section `data`: which rows, and how they are prepared."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from automl.space.searchable import Searchable
from automl.space.sections import Alternatives, ColumnOrPatterns, Files, FractionOrFiles, Positive, Section, WholeOrAuto

Replacement = Literal["keep", "replace", "remove"]


class Clean(Section):
    """How texts are cleaned, in this order."""

    fix_encoding: Searchable[bool] = Field(True, description="Mend text that was decoded wrongly (mojibake).")
    strip_html: Searchable[bool] = Field(True, description="Remove tags, scripts and styles; resolve entities.")
    urls: Searchable[Replacement] = Field("replace", description="URLs: keep, replace by <url>, or remove.")
    user_names: Searchable[Replacement] = Field("replace", description="@names: keep, replace by <user>, or remove.")
    numbers: Searchable[Replacement] = Field("keep", description="Numbers: keep, replace by <number>, or remove.")
    lowercase: Searchable[bool] = Field(True, description="Lowercase everything.")


class WordTokenizer(Section):
    """Words, runs of punctuation, and the marks of cleaning."""

    vocabulary: Searchable[Annotated[int, Field(ge=10)]] = Field(
        20_000, description="At most so many different tokens."
    )
    min_count: Searchable[Positive] = Field(2, description="Rarer words are unknown.")


class CharTokenizer(Section):
    """Single characters."""

    vocabulary: Searchable[Annotated[int, Field(ge=10)]] = Field(2_000, description="At most so many different tokens.")


class BpeTokenizer(Section):
    """Byte-pair encoding (Sennrich et al. 2016): frequent words whole, rare ones in parts."""

    vocabulary: Searchable[Annotated[int, Field(ge=300)]] = Field(
        8_000, description="At most so many different tokens."
    )


class UnigramTokenizer(Section):
    """The likeliest parts of words, or of texts without blanks, by a unigram model (Kudo 2018)."""

    vocabulary: Searchable[Annotated[int, Field(ge=100)]] = Field(
        8_000, description="At most so many different tokens."
    )


class Tokenizers(Alternatives):
    """How texts are cut into tokens."""

    word: WordTokenizer | None = None
    char: CharTokenizer | None = None
    bpe: BpeTokenizer | None = None
    unigram: UnigramTokenizer | None = None


class Data(Section):
    """Which rows, whatever they hold. Paths are relative to the current directory."""

    train: Files = Field(
        description="A file, folder, glob or URL, or several: Parquet, CSV and JSON Lines (also .gz, .zst), Arrow."
    )
    validation: FractionOrFiles = Field(0.1, description="A fraction of train, drawn by label, or files.")
    test: FractionOrFiles | None = Field(
        None,
        description="Files that the search never sees, or a fraction of train, set aside as that of validation is; "
        "only the leaders are measured on it.",
    )
    label: str = Field("label", min_length=1, description="The column with the label.")
    on_bad_rows: Literal["fail", "report"] = Field(
        "fail", description="Rows that cannot be used: an error, or left out and counted."
    )
    bad_rows_limit: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="With report, the largest share of a file's rows that may be left out; more are an error."
    )
    duplicates: Literal["keep", "remove"] = Field(
        "keep",
        description="Rows whose input an earlier row has, or a later split (test last): kept and counted, or removed.",
    )
    group: str | None = Field(
        None, description="A column; rows with one value are in one part only where fractions are set aside."
    )
    time: str | None = Field(
        None, description="A column; the validation fraction has the latest rows, a test fraction those after it."
    )

    @model_validator(mode="after")
    def _one_way_to_split(self) -> Data:
        given = [name for name in ("group", "time") if getattr(self, name) is not None]
        fractions = [each for each in (self.validation, self.test) if isinstance(each, float)]
        if sum(fractions) >= 1:
            raise PydanticCustomError(
                "split",
                "validation and test together take {sum} of train; leave some to train on",
                {"sum": f"{sum(fractions):g}", "setting": "test"},
            )
        if given and not fractions:
            raise PydanticCustomError(
                "split",
                "{name} says how a fraction is set aside, but validation names files",
                {"name": given[0], "setting": given[0]},
            )
        if len(given) > 1:
            raise PydanticCustomError("split", "group and time exclude each other", {"setting": "time"})
        return self


class TextData(Data):
    """Which texts, and how they are prepared. Paths are relative to the current directory."""

    text: str = Field("text", min_length=1, description="The column with the text.")
    clean: Clean = Field(default_factory=Clean, description="How texts are cleaned.")
    tokenizer: Tokenizers = Field(
        default_factory=lambda: Tokenizers(word=WordTokenizer()), description="How texts are cut into tokens."
    )
    max_length: Searchable[WholeOrAuto] = Field(
        "auto", description="Tokens kept of a text; auto takes the 99th percentile of train."
    )


class ImageData(Data):
    """Which images, and how they are prepared. Paths are relative to the current directory.

    A table has a column of files' bytes (PNG, JPEG, GIF, BMP, WebP, TIFF or PPM), of paths, or of nested lists of
    pixels, [height][width] or [height][width][channels]; a folder has a folder of image files for each class, however
    deep they lie in it. What is transparent lies on white, and EXIF's orientation is followed. Which value is white in
    files of more than 8 bits, in files of floats and in lists, the train images decide: 1, 255, 1,023, 4,095, 16,383
    or 65,535, the least that covers all but one in a hundred of them.
    """

    image: str = Field("image", min_length=1, description="The column with the image.")
    size: Searchable[WholeOrAuto] = Field(
        "auto",
        description="Images become squares of so many pixels a side; auto takes their median width, at most 224.",
    )
    colour: Literal["auto", "grey", "rgb"] = Field(
        "auto", description="Channels kept; auto is grey where all train images are."
    )


class SequenceData(Data):
    """Which series of numbers, and how they are prepared. Paths are relative to the current directory.

    A table has a column of lists, of a number for each step, or, where a series has several channels, of a list for
    each step; or a column for each step, of which a pattern such as `x*` names all but that of the label; or such
    columns for each channel, and a list of patterns.
    """

    series: ColumnOrPatterns = Field(
        "series", description="The column with the series, or a pattern for columns, or a list: one for each channel."
    )
    max_length: Searchable[WholeOrAuto] = Field(
        "auto", description="Steps kept of a series; auto takes the 99th percentile of train, at most 4,096."
    )
    missing: Literal["drop", "interpolate", "zero", "mask"] = Field(
        "drop",
        description="Numbers that a series lacks (null, NaN, an empty cell): the row cannot be used (drop), or a line "
        "between their neighbours, or 0, or train's mean and a channel that says where there are numbers (mask).",
    )


TASKS: dict[str, type[Data]] = {
    "text_classification": TextData,
    "image_classification": ImageData,
    "sequence_classification": SequenceData,
}
