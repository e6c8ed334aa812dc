import numpy as np
import pytest
from scipy import stats

from macurr.errors import ConfigError, StateError
from macurr.training.history import PlayHistory
from macurr.training.levels import LevelScores, expected_learnability
from macurr.training.rollout import Episode, Rollout


def rollout(values, valid=None, episodes=(), env_of=None, starts=None):
    values = np.array(values, np.float32)
    valid = np.ones(values.shape, bool) if valid is None else np.array(valid, bool)
    zeros = np.zeros_like(values)
    whole = np.zeros(values.shape, np.int64)
    return Rollout(
        observations=zeros[..., None],
        masks=None,
        actions=zeros,
        log_probs=zeros,
        values=values,
        rewards=zeros,
        dones=valid,
        valid=valid,
        starts=~valid if starts is None else np.array(starts, bool),
        policies=whole.astype(np.int16),
        versions=whole,
        env_of=np.arange(values.shape[1]) if env_of is None else np.array(env_of),
        agent_of=whole[0],
        last_values=zeros[0],
        episodes=list(episodes),
    )


def episode(env, step, level=4, earned=1.0, opponent=0):
    return Episode(env, step, opponent, level, learner_return=earned, others_return=0.0, length=3)


def after(scores, *episodes):
    """The scores after episodes of one step each with value 0, one rollout after the other."""
    found = []
    for ended in episodes:
        found += scores.read(rollout([[0]], episodes=[ended]), np.zeros((1, 1), np.float32))
    return [score for _, score in found]


def test_an_episode_over_two_rollouts_is_averaged_over_its_steps():
    scores = LevelScores("value_l1")
    assert scores.read(rollout([[0], [0]]), np.array([[1], [-2]], np.float32)) == []
    ended = episode(0, 0)
    second = rollout([[0], [0]], episodes=[ended])
    assert scores.read(second, np.array([[6], [50]], np.float32)) == [(ended, 3.0)]
    ended = episode(0, 1)
    third = rollout([[0], [0]], episodes=[ended])
    # What followed the end in the second rollout belongs to the next episode.
    assert scores.read(third, np.array([[1], [3]], np.float32)) == [(ended, 18.0)]


def test_only_steps_of_a_living_learner_count():
    ended = episode(0, 2)
    got = LevelScores("value_l1").read(
        rollout([[0]] * 3, valid=[[1], [1], [0]], episodes=[ended]), np.array([[1], [3], [99]], np.float32)
    )
    assert got == [(ended, 2.0)]


def test_a_learner_without_a_step_scores_nothing():
    ended = episode(0, 0)
    assert (
        LevelScores("value_l1").read(
            rollout([[0]], valid=[[0]], episodes=[ended]), np.array([[5]], np.float32)
        )
        == []
    )


def test_a_score_is_the_mean_over_all_learners_of_an_environment():
    ended = [episode(5, 1), episode(6, 0)]
    steps = rollout(
        [[0] * 3] * 2,
        valid=[[1, 1, 1], [1, 0, 1]],
        episodes=ended[::-1],
        env_of=[5, 5, 6],
        starts=[[0] * 3] * 2,
    )
    got = LevelScores("value_l1").read(steps, np.array([[1, 3, 7], [8, 99, 50]], np.float32))
    assert got == [(ended[1], 7.0), (ended[0], 4.0)]


def test_only_what_was_trained_on_counts():
    ended = episode(0, 2)
    steps, counted = rollout([[0]] * 3, episodes=[ended]), np.array([[False], [True], [True]])
    got = LevelScores("value_l1").read(steps, np.array([[50], [1], [3]], np.float32), counted)
    assert got == [(ended, 2.0)]


def test_what_was_open_is_forgotten_when_an_environment_begins_anew():
    scores = LevelScores("value_l1")
    scores.read(rollout([[0], [0]], starts=[[1], [0]]), np.array([[50], [50]], np.float32))
    ended = episode(0, 1)
    anew = rollout([[0], [0]], episodes=[ended], starts=[[1], [0]])
    assert scores.read(anew, np.array([[1], [3]], np.float32)) == [(ended, 2.0)]


def test_episodes_under_way_go_on_after_a_restart():
    scores, again = LevelScores("value_l1"), LevelScores("value_l1")
    scores.read(rollout([[0, 0], [0, 0]]), np.array([[1, 2], [3, 4]], np.float32))
    again.load_state_dict(scores.state_dict())
    ended = [episode(0, 0), episode(1, 0)]
    last = rollout([[0, 0]], episodes=ended)
    assert again.read(last, np.array([[5, 6]], np.float32)) == [(ended[0], 3.0), (ended[1], 4.0)]
    fresh = LevelScores("value_l1")
    fresh.load_state_dict(LevelScores("value_l1").state_dict())
    assert fresh.read(last, np.array([[5, 6]], np.float32)) == [(ended[0], 5.0), (ended[1], 6.0)]


@pytest.mark.parametrize(
    ("strategy", "wanted"),
    [
        ("value_l1", 2.0),
        ("signed_value_loss", 1.0),
        ("positive_value_loss", 1.5),
        ("max_mc", 2.5),
        ("grounded_positive_value_loss", 2.5),
    ],
)
def test_strategies_by_hand(strategy, wanted):
    ended = episode(0, 1, earned=4.0)
    got = LevelScores(strategy, 1).read(
        rollout([[1], [2]], episodes=[ended]), np.array([[3], [-1]], np.float32)
    )
    assert got == [(ended, wanted)]


def test_the_best_return_of_a_level_is_remembered_over_a_restart():
    scores = LevelScores("max_mc")
    both = [episode(0, 0, level=1, earned=9.0), episode(1, 0, level=2, earned=-3.0)]
    scores.read(rollout([[0, 0]], episodes=both), np.zeros((1, 2), np.float32))
    again = LevelScores("max_mc")
    again.load_state_dict(scores.state_dict())
    later = [episode(0, 0, level=2, earned=-5.0), episode(1, 0, level=1, earned=0.0)]
    got = again.read(rollout([[0, 0]], episodes=later), np.zeros((1, 2), np.float32))
    assert [score for _, score in got] == [-3.0, 9.0]


def test_learnability_is_what_results_let_one_expect_of_the_win_rate():
    won, drawn, lost = (episode(0, 0, earned=earned) for earned in (1.0, 0.0, -1.0))
    # Beta(2, 1), then Beta(1.9, 2), then Beta(1.81, 2.9): ab / ((a + b)(a + b + 1)).
    got = after(LevelScores("learnability"), won, lost, drawn)
    wanted = [2 / 12, 1.9 * 2 / (3.9 * 4.9), 1.81 * 2.9 / (4.71 * 5.71)]
    assert got == pytest.approx(wanted, rel=1e-12)
    even = after(LevelScores("learnability"), *[won, lost] * 30)[-1]
    hopeless = after(LevelScores("learnability"), *[drawn] * 60)[-1]
    assert even > 0.23
    assert hopeless < 0.09


def test_learnability_agrees_with_the_beta_distribution():
    for wins, others in [(0.0, 0.0), (3.0, 0.0), (2.5, 7.25)]:
        p = stats.beta(1 + wins, 1 + others)
        assert expected_learnability(wins, others) == pytest.approx(p.mean() - p.mean() ** 2 - p.var())


def test_levels_are_remembered_for_each_opponent_where_that_is_asked_for():
    met = [episode(0, 0, earned=9.0, opponent=1), episode(0, 0, earned=2.0, opponent=2)]
    assert after(LevelScores("max_mc"), *met) == [9.0, 9.0]
    scores = LevelScores("max_mc", per_opponent=True)
    assert after(scores, *met) == [9.0, 2.0]
    again = LevelScores("max_mc", per_opponent=True)
    again.load_state_dict(scores.state_dict())
    again.keep([2, 3])
    worse = [episode(0, 0, earned=-5.0, opponent=1), episode(0, 0, earned=-5.0, opponent=2)]
    assert after(again, *worse) == [-5.0, 2.0], (
        "an opponent that has left the pool is forgotten, the other not"
    )


def test_levels_that_are_the_same_for_all_outlive_opponents():
    scores = LevelScores("max_mc")
    after(scores, episode(0, 0, earned=9.0, opponent=1))
    scores.keep([2])
    assert after(scores, episode(0, 0, earned=0.0, opponent=2)) == [9.0]


def test_an_unknown_strategy_is_refused():
    with pytest.raises(ConfigError, match="value_l1"):
        LevelScores("policy_entropy")


def test_history_thins_itself_and_survives():
    history = PlayHistory(3, slots=4)
    for step in range(1, 21):
        history.add(step % 2, score=float(step), opponent=step // 8 if step % 4 else -1)
        history.meet(step // 8, step // 8 * 8)
        history.mark(step)
    assert history.seen == 2
    assert len(history.steps) <= 4
    gaps = np.diff(history.steps)
    assert len(set(gaps.tolist())) == 1, "points stay evenly spaced"
    at = history.steps[-1]
    assert history.past_plays[-1].tolist() == [at // 2, (at + 1) // 2, 0]
    state = history.state_dict()
    assert (state["opponents"].tolist(), state["taken"].tolist()) == ([0, 1, 2], [0, 8, 16])
    assert state["past_opponents"][-1].tolist() == [6, 6, 3], "episodes without an opponent are left out"
    assert state["past_opponents"][0].tolist() == [1, 0, 0]
    again = PlayHistory(3, slots=4)
    again.load_state_dict(state)
    for kept in (history, again):
        kept.add(2, 1.0, opponent=2)
        kept.mark(21)
        kept.mark(22)
    for name, value in history.state_dict().items():
        assert np.array_equal(value, again.state_dict()[name], equal_nan=name.endswith("scores")), name
    with pytest.raises(StateError, match="3 levels"):
        PlayHistory(2).load_state_dict(history.state_dict())
