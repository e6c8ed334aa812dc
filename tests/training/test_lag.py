"""Steps that are too old: told when it begins, and then at most once a minute, with the counts."""

from macurr.training.lag import LagAlarm


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_it_is_told_when_it_begins_and_then_once_a_minute(caplog):
    clock = Clock()
    alarm = LagAlarm(1, 7, clock)
    alarm.note(10, 5)  # half is well
    assert caplog.messages == []
    alarm.note(10, 4)
    assert caplog.messages[0].startswith(
        "6 of 10 steps for policy 1 are older than max_policy_lag=7 gradient steps and are not trained on, in this "
    )
    for _ in range(5):
        clock.now += 10.0
        alarm.note(8, 0)
    assert len(caplog.messages) == 1
    clock.now += 10.0
    alarm.note(10, 1)
    assert caplog.messages[1].startswith("49 of 50 steps for policy 1 are")
    assert "in the 6 such updates since" in caplog.messages[1]
    assert len(caplog.messages) == 2


def test_what_comes_and_goes_is_not_told_more_often(caplog):
    clock = Clock()
    alarm = LagAlarm(0, 7, clock)
    for second in range(125):
        clock.now = float(second)
        alarm.note(10, 10 * (second % 2))
    assert len(caplog.messages) == 3
    assert caplog.messages[2].startswith("10 of 10 steps for policy 0 are")


def test_an_update_without_steps_of_a_policy_says_nothing(caplog):
    alarm = LagAlarm(0, 7)
    alarm.note(0, 0)
    assert caplog.messages == []
