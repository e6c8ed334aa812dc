"""The little language of stopping conditions."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from macurr import UsageError
from macurr.curricula.expressions import parse_condition

NAMES = ("steps", "episodes", "x")


@pytest.mark.parametrize(
    ("text", "steps", "holds"),
    [
        ("steps>=3", 3, True),
        ("steps>3", 3, False),
        ("steps<3.5", 3, True),
        ("steps<=2", 3, False),
        ("steps==3", 3, True),
        ("steps=3", 3, True),
        ("steps!=3", 3, False),
        ("  steps  >  -1e2 ", 3, True),
        ("steps>.5", 1, True),
        ("((steps>=1))", 1, True),
    ],
)
def test_comparisons(text, steps, holds):
    assert parse_condition(text, NAMES)({"steps": steps}) is holds


def test_and_binds_tighter_than_or():
    condition = parse_condition("steps>=1 | episodes>=1 & x>=1", NAMES)
    assert condition({"steps": 1, "episodes": 0, "x": 0})
    assert not condition({"steps": 0, "episodes": 1, "x": 0})
    grouped = parse_condition("(steps>=1 | episodes>=1) & x>=1", NAMES)
    assert not grouped({"steps": 1, "episodes": 0, "x": 0})


@pytest.mark.parametrize("operator", [">=", "<", "==", "!="])
def test_what_is_not_known_yet_compares_with_nothing(operator):
    assert not parse_condition(f"x{operator}0", NAMES)({"x": math.nan})


@pytest.mark.parametrize(
    ("text", "position", "what"),
    [
        ("", 0, r"a name or '\(', found the end"),
        ("   ", 0, "found the end"),
        ("steps", 5, "a comparison such as '>=', found the end"),
        ("steps>=", 7, "a number, found the end"),
        ("steps>=1 &", 10, "a name"),
        ("steps>=1 & & x>1", 11, "found '&'"),
        ("(steps>=1", 9, r"'\)'"),
        ("steps>=1)", 8, "the end, found '\\)'"),
        ("steps>=1 x>1", 9, "found 'x'"),
        ("speed>1", 0, "'speed' is none of"),
        ("steps >= 1 $ 2", 11, r"'\$' has no meaning"),
        ("steps >= __import__('os')", 9, "a number, found '__import__'|has no meaning"),
        ("1<steps", 0, "found '1'"),
    ],
)
def test_errors_show_where(text, position, what):
    with pytest.raises(UsageError, match=what) as error:
        parse_condition(text, NAMES)
    if "__import__" not in text:
        assert f"at position {position}:" in str(error.value)
        assert f"\n    {' ' * position}^\n" in str(error.value)


trees = st.recursive(
    st.tuples(st.sampled_from(NAMES), st.sampled_from([">=", "<", "=="]), st.integers(-3, 3)),
    lambda inner: st.tuples(st.sampled_from("&|"), st.lists(inner, min_size=2, max_size=3)),
    max_leaves=12,
)


def _text(tree):
    if len(tree) == 3:
        return "{}{}{}".format(*tree)
    return "(" + f" {tree[0]} ".join(map(_text, tree[1])) + ")"


def _value(tree, metrics):
    if len(tree) == 3:
        name, operator, number = tree
        return {">=": metrics[name] >= number, "<": metrics[name] < number, "==": metrics[name] == number}[
            operator
        ]
    return (all if tree[0] == "&" else any)(_value(part, metrics) for part in tree[1])


@given(trees, st.fixed_dictionaries({name: st.integers(-4, 4) for name in NAMES}))
def test_any_tree_is_read_back(tree, metrics):
    assert parse_condition(_text(tree), NAMES)(metrics) is _value(tree, metrics)
