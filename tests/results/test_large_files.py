"""What a large search writes can be read again, though files of others are bounded."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from automl.results import finalists
from automl.space import UserError, safe_files
from automl.space.data_section import Clean
from automl.training import floor
from automl.training.floor import Linear, load_linear


def test_a_linear_model_of_many_terms_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    terms = [f"a{number} ," for number in range(1000)]
    vectorizer = floor._vectorizer("word", terms)
    vectorizer.idf_ = np.ones(len(terms))
    regression = LogisticRegression()
    regression.coef_, regression.intercept_ = np.ones((1, len(terms))), np.zeros(1)
    regression.classes_ = np.array([0, 1])
    clean = Clean().model_dump()
    Linear(clean, vectorizer, regression, 2).save(tmp_path / "linear")
    monkeypatch.setattr(floor, "MAX_VALUES", 100)
    assert load_linear(tmp_path / "linear").predict_probabilities(["a1 ,"]).shape == (1, 2)
    text = (tmp_path / "linear" / "linear.json").read_text()
    (tmp_path / "linear" / "linear.json").write_text(text.replace('"a0 ,"', ", ".join(['"x"'] * 5000)))
    with pytest.raises(UserError, match="more than 5,000 values"):
        load_linear(tmp_path / "linear")


@pytest.mark.parametrize(("classes", "kept"), [(3, True), (finalists.MATRIX_CLASSES + 1, False)])
def test_a_confusion_matrix_is_kept_where_it_can_be_read_again(
    classes: int, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = SimpleNamespace(labels=lambda split: np.array([0, 1]))
    monkeypatch.setattr(finalists, "prepared_data", lambda record, config: data)
    trial: Any = SimpleNamespace(number=0, config={})

    def said(split: str) -> finalists.Probabilities:
        return np.full((2, classes), 1 / classes, dtype=np.float32)

    record: Any = None
    found = finalists._confusion(record, trial, said)
    assert (found["confusion"] is not None) == kept


def test_the_largest_matrix_that_is_kept_is_read() -> None:
    assert (finalists.MATRIX_CLASSES + 1) ** 2 < safe_files.MAX_VALUES
