"""How long results gather: as long as that is worth it, and no longer than anybody waits."""

import pytest

from macurr.transports.naps import ENOUGH, GROWTH, LEAST, MOST, Nap


def after(nap, *gathered):
    for messages in gathered:
        nap.over(messages, 0.05, full=False)
    return nap.seconds


def test_a_nap_grows_while_messages_come_and_not_beyond_its_limit():
    nap = Nap(64)
    assert nap.seconds == LEAST == 0.01
    assert after(nap, 5) == pytest.approx(LEAST + GROWTH)
    assert after(nap, 5, 5, 5) == pytest.approx(LEAST + 4 * GROWTH)
    assert after(nap, *[5] * 200) == MOST == 0.05


@pytest.mark.parametrize("messages", [0, 1])
def test_where_nothing_gathers_naps_are_short(messages):
    nap = Nap(64)
    after(nap, *[5] * 20)
    assert after(nap, messages) == LEAST


def test_what_is_worth_it_is_how_often_they_come():
    nap = Nap(64)
    nap.over(1, 0.02, full=False)  # 50 in a second
    assert nap.seconds == pytest.approx(LEAST + GROWTH)
    nap.over(4, 0.2, full=False)  # 20 in a second
    assert nap.seconds == LEAST


def test_a_nap_that_gathers_enough_does_not_grow():
    nap = Nap(64)
    after(nap, *[5] * 20)
    assert after(nap, ENOUGH) == pytest.approx(LEAST + 19 * GROWTH)
    assert after(nap, *[ENOUGH] * 100) == LEAST


def test_what_one_environment_may_have_under_way_is_enough():
    nap = Nap(4)
    assert after(nap, 3) == pytest.approx(LEAST + GROWTH)
    assert after(nap, 4) == LEAST


def test_a_socket_that_was_filled_makes_the_next_nap_short():
    nap = Nap(64)
    after(nap, *[5] * 20)
    nap.over(5, 0.05, full=True)
    assert nap.seconds == LEAST


def test_who_waits_halves_it():
    nap = Nap(64)
    after(nap, *[5] * 60)  # 0.04 s
    assert nap.cut()
    assert nap.seconds == pytest.approx(0.02)
    assert nap.cut()
    assert nap.seconds == pytest.approx(LEAST)
    assert not nap.cut()  # no nap is short enough
    assert nap.seconds == LEAST
