"""The scikit-learn classifier, used by scikit-learn itself."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator

import rtl_jax as rtl
from rtl_jax.data.sources import load_dataset

pytestmark = pytest.mark.slow

TransferClassifier = rtl.sklearn.TransferClassifier


@pytest.fixture(scope="module")
def classifier():
    shape = {"stem": "small", "stage_sizes": (1,), "stage_widths": (8,)}
    source = rtl.load("random", arch="resnet18", seed=1, **shape)
    return TransferClassifier(source, blocks=None, epochs=30, image_size=8)


@pytest.fixture(scope="module")
def digits():
    """90 zeros and ones, with text labels."""
    train = load_dataset("digits", data_dir=None, image_size=8, classes=(0, 1)).train
    return train.images[:90], np.array(["zero", "one"])[train.labels[:90]]


# Those of scikit-learn's checks that are about an estimator and not about a table of numbers, which
# its tags say that it does not take: `check_estimator` leaves the others out.
CHECKS = (
    "check_estimator_cloneable",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
    "check_mixin_order",
)


@pytest.mark.filterwarnings("ignore:Can't test estimator")
def test_scikit_learns_own_checks(classifier) -> None:
    results = check_estimator(classifier, on_skip=None)
    assert {result["status"] for result in results} == {"passed"}


@pytest.mark.parametrize("check", CHECKS)
def test_scikit_learns_checks_of_any_estimator(check: str) -> None:
    getattr(estimator_checks, check)("TransferClassifier", TransferClassifier())


def test_fit_predict_score(classifier, digits) -> None:
    images, labels = digits
    model = clone(classifier).fit(images[:60], labels[:60])
    assert list(model.classes_) == ["one", "zero"]
    probabilities = model.predict_proba(images[60:])
    assert probabilities.shape == (30, 2)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert set(model.predict(images[60:])) <= {"one", "zero"}
    np.testing.assert_array_equal(
        model.predict(images[60:]), model.classes_[probabilities.argmax(1)]
    )
    assert model.score(images[60:], labels[60:]) > 0.8
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(images[60:]), probabilities)


def test_classes_keep_the_type_of_labels(classifier, digits) -> None:
    images, labels = digits
    numbers = np.where(labels == "zero", 30, 7)
    model = clone(classifier).fit(images, numbers)
    assert model.classes_.tolist() == [7, 30]
    assert (model.predict(images) == numbers).mean() > 0.8


def test_cross_validation_grid_search_and_pipeline(classifier, digits) -> None:
    images, labels = digits
    assert cross_val_score(classifier, images, labels, cv=3).mean() > 0.8
    search = GridSearchCV(classifier, {"learning_rate": [1e-9, 0.1]}, cv=2).fit(images, labels)
    assert search.best_params_ == {"learning_rate": 0.1}
    steps = [("scale", FunctionTransformer(lambda x: x / 255.0)), ("model", clone(classifier))]
    assert Pipeline(steps).fit(images, labels).score(images, labels) > 0.8


def test_before_fitting(digits) -> None:
    with pytest.raises(NotFittedError):
        TransferClassifier().predict(digits[0])
    assert TransferClassifier(blocks=2).get_params()["blocks"] == 2
