"""The league: whom each role plays, by hand-worked figures; when it freezes, when it begins anew."""

import numpy as np
import pytest

from macurr import DiscreteTaskSpace, make_local_curriculum
from macurr.curricula import DomainRandomization, FictitiousSelfPlay, League, LeagueAdvice, MainAgent
from macurr.curricula.league_roles import rising_part
from macurr.errors import PoolError, StateError, UsageError
from macurr.messages import EnvSpec
from macurr.opponents import AgentPool
from macurr.testing import CurriculumTests
from macurr.wrappers import DualCurriculumWrapper

DUEL = EnvSpec(("a", "b"), ("a",))
W = {"w": np.zeros(2)}


@pytest.fixture
def pool(tmp_path):
    return AgentPool(tmp_path / "pool")


def league_of(pool, **options):
    """A symmetric league that counts plainly; snapshot 0 is nobody's."""
    league = League(pool, **{"seed": 0, "decay": 1.0, "min_steps": 100, "max_steps": 1000, **options})
    league.begin(W)
    return league


def meet(player, opponent, wins, losses):
    rows = [("learner", opponent, 1)] * wins + [("learner", opponent, -1)] * losses
    player.update_on_demand({"results": rows})


def play(player, opponent, outcome, length=10):
    if not player._env_ids:
        player.register_env(0, DUEL)
    player.update_on_episode({"a": outcome, "b": -outcome}, length, opponent, {}, env_id=0)


def chances(player):
    return dict(zip(player.pool.ids, player.distribution().tolist(), strict=True))


# --- conformance ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared_path(tmp_path_factory):
    pool = AgentPool(tmp_path_factory.mktemp("pool"))
    league = League(pool)
    league.begin(W)
    league.freeze("main_0", W)
    league.freeze("main_exploiter_0", W)
    # Number 3 is met in every role: a state in which it stands for the learner has it twice, and is refused.
    league.freeze("main_0", W)
    return pool.path


class RoleTests(CurriculumTests):
    draws = 300
    name = ""

    @pytest.fixture(autouse=True)
    def _path(self, shared_path):
        self.path = shared_path

    def make(self, seed):
        return League(AgentPool(self.path), seed=seed)[self.name]

    def spec(self, curriculum):
        return EnvSpec(("agent_0", "agent_1"), ("agent_0",))


class TestMainAgent(RoleTests):
    name = "main_0"


class TestMainExploiter(RoleTests):
    name = "main_exploiter_0"


class TestLeagueExploiter(RoleTests):
    name = "league_exploiter_0"


# --- main agents ------------------------------------------------------------------------------------------------


def test_main_agent_without_history_plays_the_initial_policy(pool):
    assert chances(league_of(pool)["main_0"]) == {0: 1.0}


def test_main_agent_plays_the_league_and_itself(pool):
    league = league_of(pool)
    main = league["main_0"]
    assert league.freeze("main_0", W) == 1
    assert league.freeze("main_exploiter_0", W) == 2
    assert league.publish("main_0", W) == 3
    meet(main, 0, 4, 1)
    meet(main, 1, 3, 2)
    meet(main, 2, 1, 1)
    # Half by (1 - x)^2 with x = 0.8, 0.6, 0.5: 0.04, 0.16, 0.25 of 0.45. No exploiter below 0.3, nothing forgotten:
    # the other half against itself.
    assert chances(main) == pytest.approx(
        {0: 0.02 / 0.45, 1: 0.08 / 0.45, 2: 0.125 / 0.45, 3: 0.5}, abs=1e-12
    )


def test_main_agent_goes_back_to_exploiters(pool):
    league = league_of(pool)
    main = league["main_0"]
    league.freeze("main_exploiter_0", W)
    league.freeze("main_exploiter_0", W)
    league.publish("main_0", W)
    meet(main, 0, 1, 0)
    meet(main, 1, 1, 4)
    meet(main, 2, 3, 2)
    # x = 1, 0.2, 0.6: 0, 0.64, 0.16 for all, and the same among the exploiters, one of which is below 0.3.
    assert chances(main) == pytest.approx({0: 0.0, 1: 0.65 * 0.8, 2: 0.65 * 0.2, 3: 0.35}, abs=1e-12)


def test_main_agent_goes_back_to_what_it_has_forgotten(pool):
    league = league_of(pool)
    main = league["main_0"]
    for _ in range(4):
        league.freeze("main_0", W)
    meet(main, 0, 1, 0)
    for opponent, wins in ((1, 6), (2, 9), (3, 8), (4, 5)):
        meet(main, opponent, wins, 10 - wins)
    # Itself is snapshot 4, the newest. Up to the last rise: 0.6, 0.9; the tail 0.8, 0.5 is as it should be.
    everybody = {0: 0.0, 1: 0.16, 2: 0.01, 3: 0.04, 4: 0.25}
    expected = {i: 0.5 * f / 0.46 for i, f in everybody.items()}
    expected[1] += 0.15 * 0.16 / 0.17
    expected[2] += 0.15 * 0.01 / 0.17
    expected[4] += 0.35
    assert chances(main) == pytest.approx(expected, abs=1e-12)


def test_main_agent_that_has_forgotten_nothing_badly_plays_itself(pool):
    league = league_of(pool)
    main = league["main_0"]
    for opponent, wins in ((0, 10), (1, 8), (2, 9)):
        if opponent:
            league.freeze("main_0", W)
        meet(main, opponent, wins, 10 - wins)
    # A rise from 0.8 to 0.9, but nobody below 0.7.
    assert chances(main) == pytest.approx({0: 0.0, 1: 0.5 * 0.8, 2: 0.5 * 0.2 + 0.5}, abs=1e-12)


def test_main_agents_meet_each_other_and_step_back_from_the_strong(pool):
    league = league_of(pool, main_agents=2)
    main = league["main_0"]
    league.freeze("main_1", W)
    league.freeze("main_1", W)
    league.publish("main_0", W)
    live = league.publish("main_1", W)
    assert live == 4
    meet(main, 0, 1, 0)
    meet(main, 1, 1, 1)
    meet(main, 2, 1, 3)
    meet(main, 4, 1, 3)
    # Against main_1 (0.25): by x (1 - x) on its past, 0.25 and 0.1875. Its past rises nowhere.
    past = {1: 0.25 / 0.4375, 2: 0.1875 / 0.4375}
    everybody = {1: 0.25 / 0.8125, 2: 0.5625 / 0.8125}
    expected = {0: 0.0, 3: 0.25, 4: 0.0, **{i: 0.5 * everybody[i] + 0.25 * past[i] for i in past}}
    assert chances(main) == pytest.approx(expected, abs=1e-12)
    # Once it is beaten more often, it is met as it is.
    meet(main, 4, 1, 0)
    assert chances(main)[4] == pytest.approx(0.25, abs=1e-12)


def test_shares_are_options_by_role(pool):
    league = league_of(pool, role_options={"main": {"pfsp_share": 0.0, "verification_share": 0.0}})
    league.publish("main_0", W)
    assert chances(league["main_0"]) == {0: 0.0, 1: 1.0}


@pytest.mark.parametrize(
    ("rates", "kept"), [([], 0), ([0.5], 0), ([0.9, 0.5, 0.5], 0), ([0.1, 0.2], 2), ([0.5, 0.4, 0.6, 0.3], 3)]
)
def test_tail_that_does_not_rise_is_cut_off(rates, kept):
    assert rising_part(np.array(rates)) == kept


# --- exploiters -------------------------------------------------------------------------------------------------


def test_main_exploiter_plays_the_main_agent_unless_it_is_out_of_reach(pool):
    league = league_of(pool)
    exploiter = league["main_exploiter_0"]
    assert chances(exploiter) == {0: 1.0}  # there is no main agent yet
    league.freeze("main_0", W)
    league.freeze("main_0", W)
    league.publish("main_0", W)
    assert chances(exploiter) == {0: 0.0, 1: 0.0, 2: 0.0, 3: 1.0}
    meet(exploiter, 1, 1, 1)
    meet(exploiter, 2, 1, 9)
    meet(exploiter, 3, 1, 9)
    # 0.1 is out of reach; x (1 - x) of the past: 0.25 and 0.09.
    assert chances(exploiter) == pytest.approx({0: 0, 1: 0.25 / 0.34, 2: 0.09 / 0.34, 3: 0}, abs=1e-12)


def test_league_exploiter_plays_all_that_are_frozen(pool):
    league = league_of(pool)
    exploiter = league["league_exploiter_0"]
    league.freeze("main_0", W)
    league.freeze("league_exploiter_0", W)
    league.publish("main_0", W)
    meet(exploiter, 0, 9, 1)
    meet(exploiter, 1, 1, 9)
    # min(1/2, 1 - x) for x = 0.9, 0.1, 0.5.
    assert chances(exploiter) == pytest.approx({0: 0.1 / 1.1, 1: 0.5 / 1.1, 2: 0.5 / 1.1, 3: 0.0}, abs=1e-12)


# --- who stands for whom ----------------------------------------------------------------------------------------


def test_newer_copies_of_a_main_agent_take_over_results(pool):
    league = league_of(pool)
    exploiter = league["main_exploiter_0"]
    first = league.publish("main_0", W)
    for outcome in (1, 1, 1, -1):
        play(exploiter, first, outcome)
    second = league.publish("main_0", W)
    assert exploiter.win_rates([second]).tolist() == [0.5]  # not noticed before the next call
    chances(exploiter)
    assert exploiter.win_rates([second]).tolist() == [0.75]
    play(exploiter, first, -1)  # begun before the second copy came
    assert tuple(exploiter.payoffs.counts("learner", second)) == (3, 0, 2)
    frozen = league.freeze("main_0", W)
    play(exploiter, second, 1)
    assert tuple(exploiter.payoffs.counts("learner", frozen)) == (4, 0, 2)


def test_copies_of_exploiters_start_even(pool):
    league = league_of(pool)
    main = league["main_0"]
    first = league.freeze("main_exploiter_0", W)
    play(main, first, -1)
    second = league.freeze("main_exploiter_0", W)
    chances(main)
    assert main.win_rates([first, second]).tolist() == [0.0, 0.5]


def test_published_copies_make_way(pool):
    league = league_of(pool, live_copies=2)
    league.freeze("main_0", W)
    for _ in range(4):
        league.publish("main_0", W)
    assert pool.ids == [0, 1, 4, 5]
    with pytest.raises(UsageError, match="Publish main agents"):
        league.publish("main_exploiter_0", W)
    assert pool.metadata(1)["tags"] == ["league", "main_0", "main", "frozen"]


def test_snapshots_of_unknown_origin_are_frozen_opponents(pool):
    league = league_of(pool)
    pool.add(W)
    assert chances(league["league_exploiter_0"]) == {0: 0.5, 1: 0.5}
    pool.add(W, league={"hero": 1})
    with pytest.raises(PoolError, match="hero"):
        league["main_0"].sample()


def test_snapshots_that_leave_the_pool_are_forgotten(pool):
    league = league_of(pool)
    league.freeze("main_0", W)
    exploiter = league["league_exploiter_0"]
    assert chances(exploiter) == {0: 0.5, 1: 0.5}
    pool.remove(0)
    assert chances(exploiter) == {1: 1.0}


# --- freezing ---------------------------------------------------------------------------------------------------


def test_player_is_frozen_when_it_beats_its_targets_or_in_time(pool):
    league = league_of(pool)
    main = league["main_0"]
    for _ in range(9):
        play(main, 0, 1)
    assert League.advice(main) == LeagueAdvice(False, False)  # 90 steps of 100
    play(main, 0, 1)
    assert League.advice(main) == LeagueAdvice(True, False)
    league.freeze("main_exploiter_0", W)
    assert not League.advice(main).freeze  # a target that it has not met
    play(main, 1, 1, length=899)
    assert League.advice(main).freeze  # beaten
    for _ in range(3):
        play(main, 1, -1, length=0)
    assert not League.advice(main).freeze
    play(main, 0, 1, length=1)
    assert League.advice(main).freeze  # 1000 steps
    league.freeze("main_0", W)
    assert League.advice(main) == LeagueAdvice(False, False)
    assert main.metrics()["steps_since_freeze"] == 0
    # It goes on as it was, and so do its results.
    assert main.win_rates([0]).tolist() == [1.0]


def test_win_rate_has_to_be_more_than_asked(pool):
    league = league_of(pool)
    main = league["main_0"]
    for outcome in [1] * 7 + [-1] * 3:
        play(main, 0, outcome)
    assert not main.freeze_due
    play(main, 0, 1)
    assert main.freeze_due


def test_main_exploiter_is_frozen_first_and_then_begins_anew(pool):
    league = league_of(pool)
    exploiter = league["main_exploiter_0"]
    live = league.publish("main_0", W)
    for _ in range(10):
        play(exploiter, live, 1)
    advice = League.advice(exploiter)
    assert advice == LeagueAdvice(True, True)
    league.freeze("main_exploiter_0", {"w": np.ones(2)})
    assert pool.get(pool.latest)["w"].tolist() == [1.0, 1.0]  # the one that won, not the beginner
    chances(exploiter)
    assert exploiter.win_rates([live]).tolist() == [0.5]
    assert League.advice(exploiter) == LeagueAdvice(False, False)


def test_league_exploiter_begins_anew_in_a_quarter_of_cases(pool):
    exploiter = league_of(pool)["league_exploiter_0"]
    drawn = [exploiter._draw_reset() for _ in range(4000)]
    # Four standard deviations of 4000 draws.
    assert abs(np.mean(drawn) - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 4000)
    assert league_of(pool, role_options={"league_exploiter": {"reset_prob": 1.0}})[
        "league_exploiter_0"
    ].resets


def test_reset_is_known_beforehand(pool):
    league = league_of(pool, role_options={"league_exploiter": {"reset_prob": 0.5}})
    exploiter = league["league_exploiter_0"]
    seen = set()
    for _ in range(12):
        for _ in range(100):
            play(exploiter, 0, 1)
        advice = League.advice(exploiter)
        assert advice == (True, exploiter.resets)
        seen.add(advice.reset)
        league.freeze("league_exploiter_0", W)
        chances(exploiter)
        assert exploiter.win_rates([0]).tolist() == [0.5 if advice.reset else 1.0]
    assert seen == {False, True}


# --- sides ------------------------------------------------------------------------------------------------------


def test_sides_have_populations_of_their_own(pool):
    league = League(pool, sides=("red", "blue"), league_exploiters=0, seed=0, decay=1.0)
    assert list(league.players) == [
        "red/main_0",
        "red/main_exploiter_0",
        "blue/main_0",
        "blue/main_exploiter_0",
    ]
    red = league.begin(W, side="red")
    with pytest.raises(UsageError, match="'blue'"):
        league["red/main_0"].sample()
    blue = league.begin(W, side="blue")
    assert chances(league["red/main_0"]) == {red: 0.0, blue: 1.0}
    assert chances(league["blue/main_0"]) == {red: 1.0, blue: 0.0}
    main, exploiter = league.freeze("blue/main_0", W), league.freeze("blue/main_exploiter_0", W)
    # The blue exploiter exploits red, so red goes back to it; self-play is against blue's main agent.
    meet(league["red/main_0"], exploiter, 1, 4)
    squares = {blue: 0.25 / 1.14, main: 0.25 / 1.14, exploiter: 0.64 / 1.14}
    expected = {red: 0.0, **{i: 0.5 * f for i, f in squares.items()}}
    expected[exploiter] += 0.15
    expected[main] += 0.35
    assert chances(league["red/main_0"]) == pytest.approx(expected, abs=1e-12)
    assert chances(league["red/main_exploiter_0"])[main] == 1.0
    assert chances(league["blue/main_exploiter_0"]) == {red: 1.0, blue: 0.0, main: 0.0, exploiter: 0.0}


# --- all together -----------------------------------------------------------------------------------------------


def test_players_are_hosted_each_on_its_own_and_within_dual_curricula(pool):
    league = league_of(pool, min_steps=10)
    dual = DualCurriculumWrapper(DomainRandomization(DiscreteTaskSpace(9), seed=0), league["main_0"])
    with make_local_curriculum(dual) as synced, make_local_curriculum(league["main_exploiter_0"]) as other:
        synced.register_env(0, DUEL)
        [task] = synced.sample()
        assert task.agent == 0
        assert not League.advice(synced).freeze
        synced.update_on_episode({"a": 1, "b": 0}, 10, task, {}, env_id=0)
        assert League.advice(synced) == LeagueAdvice(True, False)
        assert League.advice(other) == LeagueAdvice(False, False)
        league.freeze("main_0", W)
        assert not League.advice(synced).freeze
        assert other.sample(3) == [1, 1, 1]


def test_league_goes_on_from_its_state(pool):
    league = league_of(pool)
    league.freeze("main_0", W)
    for opponent, outcome in ((0, 1), (1, -1), (1, 1)):
        for player in league.players.values():
            play(player, opponent, outcome)
    state = league.state_dict()
    again = League(AgentPool(pool.path), seed=9, decay=1.0, min_steps=100, max_steps=1000)
    again.load_state_dict(state)
    for name, player in league.players.items():
        assert again[name].metrics() == player.metrics()
        assert again[name].sample(50) == player.sample(50)
    # A frozen copy that came while nobody listened is noticed.
    league.freeze("main_0", W)
    assert again["main_0"].metrics()["steps_since_freeze"] == 0


def test_state_of_another_league_changes_nothing(pool):
    league = league_of(pool)
    play(league["main_0"], 0, 1)
    state = league.state_dict()
    with pytest.raises(StateError, match="players"):
        league_of(pool, main_agents=2).load_state_dict(state)
    fresh = league_of(pool)
    state["players"]["league_exploiter_0"]["steps"] = -1
    with pytest.raises(StateError, match="steps"):
        fresh.load_state_dict(state)
    assert fresh["main_0"].metrics()["steps_since_freeze"] == 0
    with pytest.raises(StateError, match="main_0"):
        league_of(pool, main_agents=2)["main_1"].load_state_dict(league["main_0"].state_dict())


def test_misuse_is_explained(pool):
    for options in (
        {"main_agents": 0},
        {"league_exploiters": -1},
        {"live_copies": 0},
        {"sides": ("red",)},
        {"sides": ("red", "red")},
        {"sides": "ab"},
        {"min_steps": 5, "max_steps": 4},
        {"win_rate": 2},
        {"role_options": {"hero": {}}},
        {"role_options": {"main": {"reset_prob": 0.5}}},
        {"role_options": {"main": {"pfsp_share": 0.9, "verification_share": 0.2}}},
    ):
        with pytest.raises(UsageError):
            League(pool, **options)
    league = League(pool)
    with pytest.raises(UsageError, match="main_7"):
        league.freeze("main_7", W)
    with pytest.raises(UsageError, match="'red'"):
        league.begin(W, side="red")
    with pytest.raises(UsageError, match="empty"):
        league["main_0"].sample()
    league.begin(W)
    with pytest.raises(UsageError, match="0 players"):
        League.advice(FictitiousSelfPlay(pool))
    with pytest.raises(UsageError, match="AgentPool"):
        MainAgent("folder", "main_0")
