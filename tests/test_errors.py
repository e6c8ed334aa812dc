"""The errors: one root, and the built-in that each stands for."""

import builtins
import pickle

import pytest

from macurr import errors
from macurr.errors import MacurrError, MissingDependencyError, TransportError

CLASSES = [
    value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)
]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_has_the_root_a_docstring_and_survives_pickle(kind):
    assert issubclass(kind, MacurrError)
    assert kind.__doc__
    error = pickle.loads(pickle.dumps(kind("what came")))
    assert type(error) is kind
    assert str(error) == "what came"


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("TaskError", "ValueError"),
        ("UsageError", "RuntimeError"),
        ("ConfigError", "ValueError"),
        ("StateError", "ValueError"),
        ("CurriculumError", "RuntimeError"),
        ("TransportError", "RuntimeError"),
        ("CurriculumLost", "ConnectionError"),
        ("WorkerLost", "ConnectionError"),
        ("TrainingError", "RuntimeError"),
        ("TaskTimeoutError", "TimeoutError"),
        ("MissingDependencyError", "ImportError"),
    ],
)
def test_errors_are_what_they_stand_for(name, builtin):
    assert issubclass(getattr(errors, name), getattr(builtins, builtin))


def test_failures_of_the_link_are_caught_together():
    assert {kind.__name__ for kind in TransportError.__subclasses__()} == {
        "CurriculumLost",
        "WorkerLost",
        "TaskTimeoutError",
        "BacklogError",
    }


def test_the_list_in_the_docstring_is_complete():
    assert [kind.__name__ for kind in CLASSES if kind.__name__ not in errors.__doc__] == []


def test_a_missing_package_names_its_extra():
    error = MissingDependencyError.for_extra("ray", "ray", "transport='ray'")
    assert str(error) == "transport='ray' needs ray, which is not installed: pip install 'macurr[ray]'"
