"""Runs that share a directory: what is published, who is left out, and what a death leaves behind."""

import json
import logging
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from macurr.errors import ConfigError, StateError
from macurr.testing.nested import same
from macurr.training.config import PBTConfig
from macurr.training.population_history import PopulationHistory, read_history
from macurr.training.population_rules import Bounds
from macurr.training.population_runs import RunMember
from macurr.training.population_weights import fits, pack, unpack
from macurr.training.shared_population import LEAST_SILENCE, SILENT_ROUNDS, SharedPopulation
from tests.support.processes import FORK

KIND = "tests:Env() ranked by win_rate"
SETTINGS = {"learning_rate": 1e-3, "curriculum/temperature": 1.0}
BOUNDS = {"learning_rate": Bounds(1e-7, 0.1), "curriculum/temperature": Bounds(0.05, 10.0)}


def weights(value, size=4):
    moments = {"step": np.array(float(value), np.float32), "exp_avg": np.full(size, value, np.float32)}
    return {
        "policies": [
            {
                "policy": {"w": np.full((2, size), value, np.float32)},
                "moments": {"w": moments},
                "n": int(value),
            }
        ]
    }


def join(folder, name, kind=KIND):
    run = folder / "runs" / name
    run.mkdir(parents=True, exist_ok=True)
    return SharedPopulation(folder / "population", run, kind)


def rules(**options):
    fast = {"pbt": True, "pbt_period": 100, "pbt_start": 0, "pbt_mutation_rate": 0.0}
    return PBTConfig(**{**fast, **options})


def member(folder, name, seed=0, **options):
    return RunMember(join(folder, name), rules(**options), SETTINGS, BOUNDS, np.random.default_rng(seed))


def aged(shared, seconds):
    """Make a member's last publication so much older."""
    file = shared.folder / "member.json"
    now = file.stat().st_mtime
    os.utime(file, (now - seconds, now - seconds))


# --- weights -----------------------------------------------------------------------------------------------


def test_weights_come_back_as_they_were():
    state = {
        "policies": [
            {"a": np.arange(6, dtype=np.int64).reshape(2, 3).T, "b": np.array(True), "c": [None, 1.5, "x"]}
        ],
        "empty": {},
        "flag": np.bool_(True),
    }
    found = unpack(pack(state))
    assert same(found, {**state, "flag": True})
    assert found["policies"][0]["b"].shape == ()
    assert fits(found, state) is None


@pytest.mark.parametrize("cut", [0, 4, 100, -1])
def test_cut_weights_are_refused(cut):
    with pytest.raises(StateError, match="cut short or damaged"):
        unpack(pack(weights(1))[:cut])


def test_weights_of_something_else_are_refused():
    from safetensors.numpy import save

    with pytest.raises(StateError):
        unpack(save({"w": np.zeros(3)}))


def test_the_first_difference_is_named():
    own = weights(1)
    assert fits(weights(2), own) is None
    assert fits(weights(2, size=5), own) == (
        "policies/0/moments/w/exp_avg is float32 (5,), and float32 (4,) here"
    )
    assert fits({**weights(2), "more": 1}, own) == "more is not known here"
    assert fits({}, own) == "policies/0/moments/w/exp_avg is missing"
    assert "float64" in fits({"policies": [{**own["policies"][0], "policy": {"w": np.zeros((2, 4))}}]}, own)
    assert "not finite" in fits(_with_nan(), own)
    assert "no array" in fits({"policies": [{**own["policies"][0], "n": np.zeros(1)}]}, own)


def _with_nan():
    state = weights(1)
    state["policies"][0]["policy"]["w"][0, 0] = np.nan
    return state


# --- the directory -----------------------------------------------------------------------------------------


def test_members_see_what_others_published(tmp_path):
    one, other = join(tmp_path, "one"), join(tmp_path, "other")
    assert one.members() == {}
    one.publish(0.5, 100, SETTINGS, weights(1))
    other.publish(0.7, 120, {**SETTINGS, "learning_rate": 2e-3}, weights(2))
    seen = one.members()
    assert list(seen) == ["one", "other"]
    assert (seen["other"].objective, seen["other"].steps) == (0.7, 120)
    assert seen["other"].settings == {**SETTINGS, "learning_rate": 2e-3}
    assert same(one.read(seen["other"]), weights(2))
    assert same(other.read(other.members()["one"]), weights(1))


def test_only_the_last_two_weights_are_kept(tmp_path):
    one, other = join(tmp_path, "one"), join(tmp_path, "other")
    other.publish(0.0, 0, SETTINGS, weights(0))
    for i in range(5):
        one.publish(0.5, 100 * i, SETTINGS, weights(i))
        (one.folder / ".member.json.99.tmp").write_text("{")
    assert len(list(one.folder.glob("*.safetensors"))) == 2
    seen = other.members()["one"]
    one.publish(0.5, 500, SETTINGS, weights(5))
    assert same(other.read(seen), weights(4))  # the one before is still there for who reads it
    for i in (6, 7):
        one.publish(0.5, 100 * i, SETTINGS, weights(i))
    assert same(other.read(seen), weights(7))
    assert {file.name for file in one.folder.glob(".*")} == set()


def test_who_is_silent_is_left_out(tmp_path):
    one, other = join(tmp_path, "one"), join(tmp_path, "other")
    other.publish(0.7, 100, SETTINGS, weights(2))
    one.publish(0.5, 100, SETTINGS, weights(1))
    aged(other, LEAST_SILENCE - 5)
    assert set(one.members()) == {"one", "other"}
    aged(other, 10)
    assert set(one.members()) == {"one"}
    # A slow member is waited for by its own measure.
    file = other.folder / "member.json"
    entry, stamp = json.loads(file.read_text()), file.stat().st_mtime
    file.write_text(json.dumps({**entry, "interval": 2 * LEAST_SILENCE / SILENT_ROUNDS}))
    os.utime(file, (stamp, stamp))
    assert set(one.members()) == {"one", "other"}
    other.publish(0.7, 200, SETTINGS, weights(2))  # resumed
    assert set(one.members()) == {"one", "other"}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        json.dumps({"format": "other", "version": 1}),
        json.dumps({"format": "macurr population member", "version": 2}),
    ],
)
def test_damaged_entries_are_left_out(tmp_path, content, caplog):
    one, other = join(tmp_path, "one"), join(tmp_path, "other")
    other.publish(0.7, 100, SETTINGS, weights(2))
    one.publish(0.5, 100, SETTINGS, weights(1))
    (other.folder / "member.json").write_text(content)
    with caplog.at_level(logging.WARNING, "macurr"):
        assert set(one.members()) == {"one"}
        assert set(one.members()) == {"one"}
    assert len(caplog.records) == 1
    assert "'other'" in caplog.text


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("objective", float("nan")),
        ("weights", "../../one/member.json"),
        ("settings", {"a": "b"}),
        ("settings", [0.5]),
        ("steps", None),
        ("steps", float("inf")),
        ("objective", 10**400),
    ],
)
def test_impossible_entries_are_left_out(tmp_path, field, value):
    one, other = join(tmp_path, "one"), join(tmp_path, "other")
    other.publish(0.7, 100, SETTINGS, weights(2))
    one.publish(0.5, 100, SETTINGS, weights(1))
    file = other.folder / "member.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), field: value}))
    assert set(one.members()) == {"one"}


def test_damaged_weights_are_noticed(tmp_path, caplog):
    one, other = join(tmp_path, "one"), join(tmp_path, "other")
    other.publish(0.7, 100, SETTINGS, weights(2))
    one.publish(0.5, 100, SETTINGS, weights(1))
    seen = one.members()["other"]
    [file] = other.folder.glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    assert one.read(seen) is None
    file.unlink()
    assert one.read(seen) is None
    assert "'other'" in caplog.text


def test_a_name_belongs_to_one_run(tmp_path):
    first = join(tmp_path, "run")
    first.publish(0.5, 100, SETTINGS, weights(1))
    assert set(join(tmp_path, "run").members()) == {"run"}  # the same one, resumed
    elsewhere = tmp_path / "elsewhere" / "run"
    elsewhere.mkdir(parents=True)
    with pytest.raises(ConfigError, match="of another run"):
        SharedPopulation(tmp_path / "population", elsewhere, KIND)


def test_other_kinds_are_refused_or_left_out(tmp_path, caplog):
    one = join(tmp_path, "one")
    stranger = join(tmp_path, "stranger", "tests:Other()")  # nobody has published: it cannot know
    one.publish(0.5, 100, SETTINGS, weights(1))
    stranger.publish(0.9, 100, SETTINGS, weights(1))
    assert set(one.members()) == {"one"}
    assert "trains something else" in caplog.text
    with pytest.raises(ConfigError, match=r"tests:Other\(\)"):
        join(tmp_path, "third")


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    run = tmp_path / "run"
    run.mkdir()
    with pytest.raises(ConfigError, match="population"):
        SharedPopulation(tmp_path / "file", run, KIND)


# --- decisions ---------------------------------------------------------------------------------------------


def step(one, objective, steps, value, settings=SETTINGS):
    return one.step(objective, steps, settings, weights(value))


def test_the_worst_run_takes_over_the_best(tmp_path):
    best, worst = member(tmp_path, "a"), member(tmp_path, "b")
    assert step(best, 0.9, 100, 1, {**SETTINGS, "learning_rate": 5e-3}) is None  # alone
    outcome = step(worst, 0.1, 110, 2)
    assert (outcome.rank, outcome.members, outcome.copy_from) == (1, 2, "a")
    assert same(outcome.state, weights(1))
    assert outcome.before == SETTINGS
    assert outcome.settings == {**SETTINGS, "learning_rate": 5e-3}
    stays = step(best, 0.9, 200, 3)
    assert (stays.rank, stays.copy_from, stays.settings) == (0, None, SETTINGS)


def test_a_run_decides_in_its_own_time(tmp_path):
    one, other = member(tmp_path, "a", pbt_start=300), member(tmp_path, "b", pbt_start=300)
    for steps in (50, 99):
        assert not one.due(steps)
        assert step(one, 0.5, steps, 1) is None
    assert one.shared.members() == {}
    for steps in (100, 200):
        assert step(one, 0.9, steps, 1) is None
        assert step(other, 0.1, steps, 1) is None
    assert set(one.shared.members()) == {"a", "b"}  # published, though too early to decide
    assert step(other, 0.1, 300, 1).copy_from == "a"
    assert step(other, 0.1, 399, 1) is None


def test_leads_that_are_too_small_change_nothing(tmp_path):
    best, worst = member(tmp_path, "a"), member(tmp_path, "b")
    step(best, -1.00, 100, 1)
    assert step(worst, -1.05, 100, 2).copy_from is None
    assert step(worst, -1.20, 200, 2).copy_from == "a"


def test_the_first_by_name_keeps_its_settings(tmp_path):
    first, best, other = (member(tmp_path, name, pbt_mutation_rate=1.0) for name in "abc")
    step(best, 0.9, 100, 1, {**SETTINGS, "learning_rate": 5e-3})
    step(other, 0.5, 100, 2)
    outcome = step(first, 0.1, 100, 3)
    assert outcome.copy_from == "b"
    assert outcome.settings == SETTINGS
    between = step(other, 0.5, 200, 2)
    assert between.copy_from is None
    assert all(between.settings[name] != SETTINGS[name] for name in SETTINGS)


def test_settings_from_elsewhere_stay_within_bounds(tmp_path):
    best, worst = member(tmp_path, "a"), member(tmp_path, "b")
    step(best, 0.9, 100, 1, {"learning_rate": 50.0, "something/else": 3.0})
    assert step(worst, 0.1, 100, 2).settings == {**SETTINGS, "learning_rate": 0.1}


def test_weights_of_another_shape_are_passed_over(tmp_path, caplog):
    good, wide, third, worst = (member(tmp_path, name) for name in "abcd")
    wide.step(0.95, 100, SETTINGS, weights(9, size=7))
    step(good, 0.9, 100, 1)
    step(third, 0.5, 100, 1)
    for steps in range(100, 1100, 100):
        assert step(worst, 0.1, steps, 2).copy_from == "a"
    assert "cannot be taken over" in caplog.text


def test_dead_members_are_neither_copied_nor_counted(tmp_path):
    dead, one, other = (member(tmp_path, name) for name in "abc")
    step(dead, 0.99, 100, 1)
    aged(dead.shared, 10 * LEAST_SILENCE)
    step(one, 0.5, 100, 2)
    outcome = step(other, 0.1, 100, 3)
    assert (outcome.members, outcome.copy_from) == (2, "b")


def test_a_directory_that_is_gone_costs_rounds_only(tmp_path, caplog):
    one, other = member(tmp_path, "a"), member(tmp_path, "b")
    step(one, 0.9, 100, 1)
    (tmp_path / "population").rename(tmp_path / "away")
    assert step(other, 0.1, 100, 2) is None
    assert "for a round" in caplog.text
    other.record({"steps": 100})
    (tmp_path / "away").rename(tmp_path / "population")
    assert step(other, 0.1, 200, 2).copy_from == "a"


def test_a_resumed_member_goes_on(tmp_path):
    one, other = member(tmp_path, "a"), member(tmp_path, "b", pbt_mutation_rate=0.5)
    step(one, 0.9, 100, 1)
    first = step(other, 0.5, 100, 2)
    other.record({"round": 1})
    state = other.state_dict()
    step(one, 0.9, 200, 1)
    later = [step(other, 0.5, steps, 2, first.settings) for steps in (200, 300)]
    other.record({"round": 2})
    again = member(tmp_path, "b", seed=7, pbt_mutation_rate=0.5)
    again.load_state_dict(state)
    assert read_history(again.shared.history.path) == [{"round": 1}]
    assert [step(again, 0.5, steps, 2, first.settings).settings for steps in (200, 300)] == [
        outcome.settings for outcome in later
    ]
    before = again.state_dict()
    for wrong in ({}, {**state, "last": "x"}, {**state, "rng": {}}):
        with pytest.raises(StateError, match=r"[Rr]esume"):
            again.load_state_dict(wrong)
    assert same(again.state_dict(), before)


# --- history -----------------------------------------------------------------------------------------------


def test_history_is_cut_and_tolerates_a_torn_line(tmp_path):
    history = PopulationHistory(tmp_path / "history.jsonl")
    assert read_history(history.path) == []
    for i in range(4):
        history.add({"round": i})
    with history.path.open("a") as file:
        file.write('{"round": 4, "sett')
    assert [row["round"] for row in read_history(history.path)] == [0, 1, 2, 3]
    history.path.write_text('{"round": 0}\n17\n{"round": 2}\n')
    assert read_history(history.path) == [{"round": 0}], "what is no row ends them"
    history.path.write_text("".join(f'{{"round": {i}}}\n' for i in range(4)))
    again = PopulationHistory(history.path)
    again.cut(2)
    again.add({"round": "new"})
    assert [row["round"] for row in read_history(history.path)] == [0, 1, "new"]
    assert again.lines == 3


# --- deaths ------------------------------------------------------------------------------------------------


@pytest.fixture
def forked():
    """Starts child processes, none of which outlives the test."""
    started = []

    def start(function, *args):
        process = multiprocessing.get_context("fork").Process(target=function, args=args)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()


def _publish_for_ever(folder, name):
    shared, steps = join(folder, name), 1
    while True:
        shared.publish(1.0 / steps, steps, {"learning_rate": float(steps)}, weights(steps, size=20_000))
        steps += 1


def _check(shared, seen):
    """What is read belongs together, whoever wrote it and whenever."""
    state = shared.read(seen)
    assert state is not None
    value = state["policies"][0]["n"]
    assert value >= seen.steps
    assert same(state, weights(value, size=20_000))
    assert seen.objective == 1.0 / seen.steps
    assert seen.settings == {"learning_rate": float(seen.steps)}


@FORK
@pytest.mark.timeout(60)
def test_killed_in_the_midst_of_publishing(tmp_path, forked):
    reader = join(tmp_path, "reader")
    reader.publish(0.0, 1, SETTINGS, weights(0, size=20_000))
    rng, steps = np.random.default_rng(0), 0
    for _ in range(25):
        writer = forked(_publish_for_ever, tmp_path, "writer")
        deadline = time.monotonic() + 30
        file = tmp_path / "population" / "members" / "writer" / "member.json"
        started = file.stat().st_mtime_ns if file.exists() else 0
        while not file.exists() or file.stat().st_mtime_ns == started:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(float(rng.uniform(0.0, 0.01)))
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        seen = reader.members()["writer"]
        _check(reader, seen)
        steps += seen.steps
    assert steps >= 25
    # What the dead left unfinished is gone once the member is back.
    join(tmp_path, "writer").publish(1.0, 1, {"learning_rate": 1.0}, weights(1, size=20_000))
    folder = tmp_path / "population" / "members" / "writer"
    assert sorted(file.suffix for file in folder.iterdir()) == ["", ".json", ".safetensors", ".safetensors"]


@FORK
@pytest.mark.timeout(60)
def test_many_write_and_read_at_once(tmp_path, forked):
    reader = join(tmp_path, "reader")
    reader.publish(0.0, 1, SETTINGS, weights(0, size=20_000))
    writers = [forked(_publish_for_ever, tmp_path, f"writer_{i}") for i in range(3)]
    deadline = time.monotonic() + 20
    while len(reader.members()) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    for _ in range(60):
        for name, seen in reader.members().items():
            if name != "reader":
                _check(reader, seen)
    for writer in writers:
        assert writer.is_alive()


@FORK
@pytest.mark.timeout(60)
def test_one_of_many_gets_a_name(tmp_path, forked):
    """Runs of one name that join at the same moment: one of them has it, the others are told."""

    def claim(number):
        run = tmp_path / str(number) / "same"
        run.mkdir(parents=True)
        try:
            SharedPopulation(tmp_path / "population", run, KIND)
        except ConfigError:
            os._exit(3)
        os._exit(0)

    claims = [forked(claim, number) for number in range(8)]
    for process in claims:
        process.join(20)
    assert sorted(process.exitcode for process in claims) == [0] + 7 * [3]
