"""EdgeBertVectorizer in scikit-learn: its own checks, pipelines, clones, pickles, columns of frames."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from frameworks import ENGINE, TEXTS
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from sklearn.utils.validation import check_is_fitted

from edgebert import Embedder
from edgebert.errors import BundleError, DataError, RecipeError
from edgebert.integrations.scikit_learn import EdgeBertVectorizer

LABELS = [i % 2 for i in range(40)]


@pytest.fixture
def vectorizer(prompted: Path) -> EdgeBertVectorizer:
    return EdgeBertVectorizer(prompted, **ENGINE)


@pytest.mark.parametrize(
    "check",
    [
        "check_estimator_cloneable", "check_estimator_repr", "check_estimator_tags_renamed", "check_valid_tag_types",
        "check_get_params_invariance", "check_set_params", "check_no_attributes_set_in_init", "check_mixin_order",
        "check_do_not_raise_errors_in_init_or_set_params", "check_parameters_default_constructible",
    ],
)  # fmt: skip
def test_scikit_learns_own_checks_pass(vectorizer: EdgeBertVectorizer, check: str) -> None:
    """All of `check_estimator` that need no numbers in: it leaves out every one for an estimator of texts."""
    getattr(estimator_checks, check)("EdgeBertVectorizer", vectorizer)


@pytest.mark.parametrize("kind", [list, tuple, np.array, lambda t: np.array(t, dtype=object)])
def test_vectors_are_the_encoders(vectorizer: EdgeBertVectorizer, encoder: Embedder, kind: Any) -> None:
    vectors = vectorizer.fit_transform(kind(TEXTS))
    assert vectors.dtype == np.float32
    assert vectors.tolist() == encoder.encode(TEXTS).tolist()
    assert vectorizer.transform([]).shape == (0, 64)
    check_is_fitted(vectorizer)


def test_options_reach_the_encoder(encoder: Embedder) -> None:
    vectorizer = EdgeBertVectorizer(encoder, truncate_dim=8, prompt="the dog ", batch_size=3)
    wanted = encoder.encode(TEXTS, truncate_dim=8, prompt="the dog ", batch_size=3)
    assert vectorizer.transform(TEXTS).tolist() == wanted.tolist()
    assert vectorizer.get_feature_names_out().tolist() == [f"edgebertvectorizer{i}" for i in range(8)]


def test_a_pipeline_learns(vectorizer: EdgeBertVectorizer, encoder: Embedder) -> None:
    texts = [f"{text} the dog barks" if label else text for text, label in zip(TEXTS, LABELS, strict=True)]
    pipeline = make_pipeline(vectorizer, LogisticRegression(C=100)).fit(texts, LABELS)
    alone = LogisticRegression(C=100).fit(encoder.encode(texts), LABELS)
    assert pipeline.predict(texts).tolist() == alone.predict(encoder.encode(texts)).tolist()
    assert pipeline.score(texts, LABELS) > 0.9
    again = pickle.loads(pickle.dumps(pipeline))
    assert again.predict_proba(texts).tolist() == pipeline.predict_proba(texts).tolist()


def test_a_pickle_holds_the_path_and_not_the_model(vectorizer: EdgeBertVectorizer, prompted: Path) -> None:
    wanted = vectorizer.fit_transform(TEXTS).tolist()
    written = pickle.dumps(vectorizer)
    assert len(written) < 1000
    again = pickle.loads(written)
    assert again.get_params() == vectorizer.get_params()
    assert again.transform(TEXTS).tolist() == wanted


def test_clones_share_the_opened_model(vectorizer: EdgeBertVectorizer) -> None:
    vectorizer.fit(TEXTS)
    copy = clone(vectorizer)
    assert copy is not vectorizer
    assert copy.get_params() == vectorizer.get_params()
    assert copy._encoder() is vectorizer._encoder()
    copy.set_params(precision="fp32")
    assert (copy._encoder().precision, vectorizer._encoder().precision) == ("fp32", "int8")


def test_a_grid_search_takes_a_ready_embedder(encoder: Embedder) -> None:
    grid = {"edgebertvectorizer__truncate_dim": [4, None]}
    search = GridSearchCV(make_pipeline(EdgeBertVectorizer(encoder), LogisticRegression()), grid, cv=2)
    search.fit(TEXTS, LABELS)
    assert search.best_estimator_[0]._encoder() is encoder
    with pytest.raises(RecipeError, match="pickling a vectorizer needs the model's name or path, not Embedder"):
        pickle.dumps(EdgeBertVectorizer(encoder))


def test_frames_in_and_out(vectorizer: EdgeBertVectorizer, encoder: Embedder) -> None:
    import pandas as pd

    frame = pd.DataFrame({"text": TEXTS, "place": range(40)}, index=range(7, 47))
    columns = make_column_transformer((vectorizer, "text"), remainder="passthrough").set_output(transform="pandas")
    out = columns.fit_transform(frame)
    assert list(out.columns[:2]) == [
        "edgebertvectorizer__edgebertvectorizer0",
        "edgebertvectorizer__edgebertvectorizer1",
    ]
    assert out.index.tolist() == frame.index.tolist()
    assert out.iloc[:, :64].to_numpy().tolist() == encoder.encode(TEXTS).tolist()
    copy = clone(vectorizer.set_output(transform="pandas"))  # as scikit-learn's own clones keep it
    assert isinstance(copy.fit_transform(frame["text"]), pd.DataFrame)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("a dog", r"X is 'a dog'; a list of strings or one column is needed"),
        (np.array([["a", "b"]]), r"X is of shape \(1, 2\); .* \(in a ColumnTransformer 'a', not \['a'\]\)"),
        (7, "X is 7; a list of strings"),
        (["a", None], r"X\[1\] is None \(NoneType\); every one must be a string"),
        (np.zeros(3), r"X\[0\] is 0.0 \(float\); every one must be a string"),
    ],
)
def test_what_are_no_texts_is_refused(vectorizer: EdgeBertVectorizer, wrong: Any, told: str) -> None:
    for method in (vectorizer.fit, vectorizer.transform):
        with pytest.raises(DataError, match=told):
            method(wrong)


def test_faults_of_options_show_when_fitting(prompted: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="truncate_dim is 65; it must be 1 to 64"):
        EdgeBertVectorizer(prompted, **ENGINE, truncate_dim=65).fit(TEXTS)
    with pytest.raises(BundleError, match="absent"):
        EdgeBertVectorizer(tmp_path / "absent").fit(TEXTS)
