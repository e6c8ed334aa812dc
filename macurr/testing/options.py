"""What every curriculum promises of the options that may change while it runs."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from macurr.curriculum import Curriculum
from macurr.errors import UsageError
from macurr.testing.nested import not_plain, raises, same
from macurr.testing.subjects import CurriculumSubject

__all__ = ["OptionChecks"]


class OptionChecks(CurriculumSubject):
    """The part of `CurriculumTests` that is about `get_options` and `set_options`."""

    def test_options_are_plain_and_bounded(self) -> None:
        """`get_options` names plain values, and `tunable_options` some of the numbers, within their bounds."""
        curriculum = self._driven(20)
        options, bounds = curriculum.get_options(), curriculum.tunable_options()
        strange = list(not_plain(options))
        assert not strange, f"Options are numbers, strings and booleans; here is {strange}."
        assert set(bounds) <= set(options), f"What can be tuned is an option; got {sorted(bounds)}."
        for name, (low, high) in bounds.items():
            assert low < high, f"The bounds of {name!r} have room between them; got {low} and {high}."
            for value in (low, high):
                curriculum.check_options(**{name: value})

    def test_setting_options_to_what_they_are_changes_nothing(self) -> None:
        """`set_options(**get_options())` leaves no trace."""
        curriculum, twin = self._driven(21), self._driven(21)
        before = curriculum.state_dict()
        curriculum.set_options(**curriculum.get_options())
        assert same(before, curriculum.state_dict()), "Options set to what they are leave the state as it is."
        self._agree(curriculum, twin, "Options set to what they are change nothing")

    def test_changed_options_are_part_of_the_state(self) -> None:
        """A state brings the options back that it was saved with: changed ones, and those before the change."""
        changed, twin = self._driven(22), self._driven(22)
        before = changed.state_dict()
        wanted = self._other_options(changed)
        changed.set_options(**wanted)
        assert same({**changed.get_options(), **wanted}, changed.get_options()), "set_options sets options."
        restored = self.make(99)
        restored.load_state_dict(copy.deepcopy(changed.state_dict()))
        assert same(restored.get_options(), changed.get_options()), "Changed options come with the state."
        assert same(restored.state_dict(), changed.state_dict()), "A loaded state is the saved one."
        self._agree(changed, self._connected(restored), "With changed options a loaded curriculum goes on")
        changed.load_state_dict(before)
        assert same(changed.get_options(), twin.get_options()), "An earlier state brings its options back."
        self._agree(changed, twin, "With an earlier state it goes on as then")

    def test_options_can_be_told_from_afar(self) -> None:
        """`update_on_demand({"options": {...}})` does what `set_options` does."""
        one, other = self._driven(23), self._driven(23)
        wanted = self._other_options(one)
        if wanted:
            one.set_options(**wanted)
            other.update_on_demand({"options": wanted})
            assert same(one.state_dict(), other.state_dict()), "Options may be told by update_on_demand."
            self._agree(one, other, "Options may be told by update_on_demand")

    def test_wrong_options_are_refused(self) -> None:
        """An unknown option raises UsageError, and then none of the others is changed."""
        curriculum = self._driven(24)
        wrong = {**self._other_options(curriculum), "no such option": 1.0}
        before = curriculum.state_dict()
        for refused in (curriculum.check_options, curriculum.set_options):
            with raises(UsageError, "An unknown option raises UsageError.", "no such option"):
                refused(**wrong)
            assert same(before, curriculum.state_dict()), "A refused option leaves no trace."
        for demand in ({"options": wrong}, {"options": 3}) if curriculum.get_options() else ():
            with raises(UsageError, f"update_on_demand({demand}) raises UsageError."):
                curriculum.update_on_demand(demand)
            assert same(before, curriculum.state_dict()), "A refused option leaves no trace."

    def _other_options(self, curriculum: Curriculum) -> dict[str, Any]:
        """Another value for each option that can be tuned."""
        rng, found = np.random.default_rng(0), {}
        for name, (low, high) in curriculum.tunable_options().items():
            found[name] = float(rng.uniform(low, high))
        return found
