"""Steps, rollouts and ready scores give the same numbers, however episodes are cut."""

import itertools
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from macurr import DiscreteTaskSpace, EnvSpec, StepBatch
from macurr.curricula.plr import STRATEGIES, PrioritizedLevelReplay, episodes, scores
from macurr.errors import TaskError, UsageError
from macurr.evaluator import FunctionEvaluator

ALONE = EnvSpec(("agent_0",), ("agent_0",), single_agent=True)
DISCOUNTS = {"gamma": 0.9, "gae_lambda": 0.8}


def critic(observations):
    """The value of an observation is its first number."""
    return np.asarray(observations, float).reshape(len(observations), -1)[:, 0]


def policy(observations):
    first = 1 / (1 + np.exp(-critic(observations)))
    return np.stack([first, 1 - first], axis=1)


def plr(n=5, *, evaluator=True, **options):
    networks = FunctionEvaluator(critic, policy) if evaluator else None
    return PrioritizedLevelReplay(
        DiscreteTaskSpace(n), **{"seed": 0, "rho": 0.0, "evaluator": networks, **DISCOUNTS, **options}
    )


def batch(observations, rewards, final, *, task=0, env_id=0, starts=True, end="", progress=None):
    """Steps of one agent; `end` is "", "terminated" or "truncated"."""
    steps = len(rewards)
    last = np.arange(steps)[:, None] == steps - 1
    return StepBatch(
        task=task,
        env_id=env_id,
        agents=("agent_0",),
        rewards=np.asarray(rewards, np.float32)[:, None],
        terminations=last & (end == "terminated"),
        truncations=last & (end == "truncated"),
        active=np.ones((steps, 1), bool),
        observations={"agent_0": np.asarray(observations, np.float32)},
        final_observations={"agent_0": np.float32(final)},
        infos=(),
        progress=progress,
        starts_episode=starts,
        ends_episode=bool(end),
        single_agent=True,
    )


class Episode:
    """One recorded episode: what was seen before each step, and what after the last."""

    def __init__(self, seed, length, end):
        rng = np.random.default_rng(seed)
        self.observations = np.round(rng.normal(size=length), 2).astype(np.float32)
        self.rewards = np.round(rng.normal(size=length), 2).astype(np.float32)
        self.final = np.float32(0.75)
        self.end = end

    def batches(self, cuts, **labels):
        edges = sorted({0, *(cut % len(self.rewards) for cut in cuts), len(self.rewards)})
        for start, stop in itertools.pairwise(edges):
            last = stop == len(self.rewards)
            yield batch(
                self.observations[start:stop],
                self.rewards[start:stop],
                self.final if last else self.observations[stop],
                starts=start == 0,
                end=self.end if last else "",
                **labels,
            )

    def advantages(self):
        final = 0.0 if self.end == "terminated" else float(self.final)
        return scores.gae_advantages(self.rewards, self.observations, final, **DISCOUNTS)


a_episode = st.builds(
    Episode, st.integers(0, 99), st.integers(1, 12), st.sampled_from(["terminated", "truncated"])
)
some_cuts = st.lists(st.integers(0, 11), max_size=4)


class TestSteps:
    @given(a_episode, some_cuts)
    def test_a_score_does_not_depend_on_the_cuts(self, episode, cuts):
        curriculum = plr()
        for piece in episode.batches(cuts):
            curriculum.update_on_step_batch(piece)
        assert curriculum.scores[0] == pytest.approx(np.abs(episode.advantages()).mean(), abs=1e-9)

    def test_the_largest_step_is_mixed_in(self):
        episode, curriculum = Episode(1, 7, "truncated"), plr(max_score_coef=0.3)
        for piece in episode.batches([3]):
            curriculum.update_on_step_batch(piece)
        errors = np.abs(episode.advantages())
        assert curriculum.scores[0] == pytest.approx(0.7 * errors.mean() + 0.3 * errors.max())

    @pytest.mark.parametrize(
        "strategy", [s.name for s in STRATEGIES.values() if s.needs <= {"values", "action_probs"}]
    )
    def test_rollouts_and_ready_scores_give_the_same(self, strategy):
        episode = Episode(2, 9, "truncated")
        by_steps, by_rollouts = plr(strategy=strategy), plr(strategy=strategy, evaluator=False)
        by_scores = plr(strategy=strategy, evaluator=False)
        for _ in range(2):
            for piece in episode.batches([4, 5]):
                by_steps.update_on_step_batch(piece)
            by_steps.update_on_episode(float(episode.rewards.sum()), 9, 0, 0.0, env_id=0)
            for rows in (slice(0, 6), slice(6, 9)):
                values = episode.observations[rows, None]
                by_rollouts.update_rollout(
                    np.zeros_like(values, int),
                    episode.rewards[rows, None],
                    np.zeros_like(values, bool),
                    np.arange(9)[rows, None] == 8,
                    values=values,
                    action_probs=policy(values)[:, None],
                    final_values=np.full_like(values, episode.final),
                )
        by_scores.update_scores([0], [by_steps.scores[0]])
        assert by_rollouts.scores[0] == pytest.approx(by_steps.scores[0], abs=1e-9)
        assert np.isfinite(by_steps.scores[0])
        np.testing.assert_allclose(by_rollouts.distribution(), by_scores.distribution(), atol=1e-9)

    def test_single_steps_leave_out_the_first(self):
        episode, curriculum = Episode(3, 6, "truncated"), plr()
        seen_after = [*episode.observations[1:], episode.final]
        for t in range(6):
            curriculum.update_on_step(0, seen_after[t], episode.rewards[t], False, t == 5, {}, 0.0, env_id=0)
        assert curriculum.scores[0] == pytest.approx(np.abs(episode.advantages()[1:]).mean(), abs=1e-9)

    def test_single_steps_count_every_reward_in_the_best_return(self):
        curriculum = plr(strategy="max_mc")
        for reward, value, term in ((1.0, 0.5, False), (2.0, 0.25, False), (4.0, 9.0, True)):
            curriculum.update_on_step(0, np.array([value]), reward, term, False, {}, None)
        assert curriculum.scores[0] == 7.0 - 0.375

    def test_streams_are_apart(self):
        first, second = Episode(4, 8, "terminated"), Episode(5, 8, "terminated")
        curriculum = plr()
        for one, two in zip(first.batches([4], env_id=0), second.batches([4], env_id=1, task=3), strict=True):
            curriculum.update_on_step_batch(one)
            curriculum.update_on_step_batch(two)
        assert curriculum.scores[0] == pytest.approx(np.abs(first.advantages()).mean())
        assert curriculum.scores[3] == pytest.approx(np.abs(second.advantages()).mean())

    @pytest.mark.parametrize("how", ["abort", "restart", "unregister", "register", "other task"])
    def test_an_episode_that_was_given_up_leaves_nothing(self, how):
        episode, curriculum = Episode(6, 8, "terminated"), plr()
        curriculum.register_env(0, ALONE)
        given_up, _ = Episode(7, 8, "terminated").batches([5], task=0 if how != "other task" else 1)
        curriculum.update_on_step_batch(given_up)
        if how == "abort":
            curriculum.update_on_abort(0, env_id=0)
        elif how == "unregister":
            curriculum.unregister_env(0)
            curriculum.register_env(0, ALONE)
        elif how == "register":
            curriculum.register_env(0, ALONE)
        for piece in episode.batches([3]):
            curriculum.update_on_step_batch(piece)
        assert curriculum.scores[0] == pytest.approx(np.abs(episode.advantages()).mean())
        assert np.isnan(curriculum.scores[1])

    def test_rows_in_which_the_agent_did_not_act_are_no_data(self):
        episode, curriculum = Episode(8, 6, "terminated"), plr()
        (piece,) = episode.batches([])
        padded = {
            name: np.concatenate([getattr(piece, name), getattr(piece, name)[-1:]])
            for name in ("rewards", "terminations", "truncations", "active")
        }
        padded["active"][-1] = False
        padded["rewards"][-1] = 100.0
        seen = {"agent_0": np.append(piece.observations["agent_0"], 0.0)}
        fields = {
            name: getattr(piece, name) for name in ("task", "env_id", "agents", "final_observations", "infos")
        }
        curriculum.update_on_step_batch(
            StepBatch(
                **fields, **padded, observations=seen, progress=None, starts_episode=True, ends_episode=True
            )
        )
        assert curriculum.scores[0] == pytest.approx(np.abs(episode.advantages()).mean())

    def test_observations_that_do_not_stack_come_as_lists(self):
        curriculum = PrioritizedLevelReplay(
            DiscreteTaskSpace(2),
            evaluator=FunctionEvaluator(lambda seen: [o["v"] for o in seen]),
            seed=0,
            **DISCOUNTS,
        )
        piece = batch([0.0, 0.0], [1.0, 2.0], 0.0, end="terminated")
        piece.observations["agent_0"] = [{"v": 4.0}, {"v": 1.0}]
        curriculum.update_on_step_batch(piece)
        expected = scores.gae_advantages([1.0, 2.0], [4.0, 1.0], 0.0, **DISCOUNTS)
        assert curriculum.scores[0] == pytest.approx(np.abs(expected).mean())

    def test_learnability_by_steps_of_nothing_but_results(self):
        curriculum = plr(strategy="learnability")
        assert not curriculum.requires_step_updates
        assert curriculum.step_fields == frozenset()

    def test_steps_are_asked_for_only_with_an_evaluator(self):
        assert plr().requires_step_updates
        assert plr().step_fields == {"rewards", "dones", "observations"}
        silent = plr(evaluator=False)
        assert not silent.requires_step_updates
        silent.update_on_step_batch(batch([1.0], [1.0], 0.0, end="terminated"))
        silent.update_on_step(0, 1.0, 1.0, True, False, {}, 0.0)
        assert np.isnan(silent.scores).all()

    def test_a_long_episode_is_scored_in_parts(self, monkeypatch):
        monkeypatch.setattr(episodes, "LIMIT", 4)
        episode, curriculum = Episode(9, 11, "terminated"), plr()
        for piece in episode.batches([2, 5, 6, 9]):
            curriculum.update_on_step_batch(piece)
            assert (
                sum(
                    len(column)
                    for _, _, saved in curriculum.state_dict()["episodes"]
                    for column in saved["columns"].values()
                )
                <= 2 * 7
            )
        # Parts 0-4, 5-8 and 9-10: each is bootstrapped by the value that follows it.
        parts = [(0, 5, episode.observations[5]), (5, 9, episode.observations[9]), (9, 11, 0.0)]
        errors = [
            np.abs(scores.gae_advantages(episode.rewards[a:b], episode.observations[a:b], after, **DISCOUNTS))
            for a, b, after in parts
        ]
        assert curriculum.scores[0] == pytest.approx(np.concatenate(errors).mean())

    def test_an_open_episode_is_part_of_the_state(self):
        episode, first, second = Episode(10, 8, "truncated"), plr(), plr(seed=5)
        start, middle, end = episode.batches([3, 6])
        first.update_on_step_batch(start)
        first.update_on_step_batch(middle)
        second.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
        second.update_on_step_batch(end)
        assert second.scores[0] == pytest.approx(np.abs(episode.advantages()).mean())

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"rewards": [1.0, np.nan]}, TaskError, "rewards on task 0"),
            ({"observations": [np.nan, 1.0]}, TaskError, "values on task 0"),
            ({"task": 9}, TaskError, "not in"),
        ],
    )
    def test_bad_steps_change_nothing(self, change, error, message):
        curriculum = plr()
        curriculum.register_env(0, ALONE)
        curriculum.update_on_step_batch(batch([1.0], [1.0], 2.0))
        before = pickle.dumps(curriculum.state_dict())
        arguments = {
            "observations": [2.0, 1.0],
            "rewards": [1.0, 2.0],
            "final": 0.0,
            "starts": False,
            **change,
        }
        with pytest.raises(error, match=message):
            curriculum.update_on_step_batch(batch(**arguments, end="terminated"))
        assert pickle.dumps(curriculum.state_dict()) == before

    def test_a_bad_single_step_changes_nothing(self):
        curriculum = plr()
        before = pickle.dumps(curriculum.state_dict())
        for step, error in (
            ((0, np.array([1.0]), np.nan, False, False), TaskError),
            ((0, np.array([np.nan]), 1.0, False, False), TaskError),
            ((9, np.array([1.0]), 1.0, False, False), TaskError),
            ((0, np.array([1.0]), {"a": 1.0}, False, False), UsageError),
            ((0, None, 1.0, False, False), UsageError),
        ):
            with pytest.raises(error):
                curriculum.update_on_step(*step, {}, 0.0)
        assert pickle.dumps(curriculum.state_dict()) == before

    def test_batches_of_several_agents_or_without_observations_are_refused(self):
        curriculum = plr()
        piece = batch([1.0], [1.0], 0.0)
        piece.observations.clear()
        with pytest.raises(UsageError, match="hold no observations"):
            curriculum.update_on_step_batch(piece)
        two = StepBatch(
            0, 0, ("a", "b"), *(np.zeros((1, 2), bool) for _ in range(4)), {}, {}, (), None, True, False
        )
        with pytest.raises(UsageError, match="MultiagentSharedCurriculumWrapper"):
            curriculum.update_on_step_batch(two)

    def test_strategies_that_no_evaluator_can_serve_are_refused(self):
        with pytest.raises(UsageError, match=r"alternative_values.*update_rollout"):
            plr(strategy="alt_advantage_abs")


class TestRollouts:
    def test_columns_and_episodes_in_a_rollout_are_told_apart(self):
        # Column 0: task 1 for two steps, then task 2, open at the end. Column 1: task 3, truncated at step 1, then 1.
        curriculum = plr(evaluator=False, strategy="one_step_td_error", gamma=1.0)
        tasks = [[1, 3], [1, 3], [2, 1], [2, 1]]
        rewards = [[1.0, 0.0], [5.0, 2.0], [1.0, 1.0], [1.0, 3.0]]
        values = [[0.5, 1.0], [2.0, 1.0], [3.0, 0.0], [0.0, 2.0]]
        terminations = [[0, 0], [1, 0], [0, 0], [0, 1]]
        truncations = [[0, 0], [0, 1], [0, 0], [0, 0]]
        curriculum.update_rollout(
            tasks, rewards, terminations, truncations, values=values, final_values=np.full((4, 2), 7.0)
        )
        # 1 + 2 - .5, then for task 3: 0 + 1 - 1; for task 1 in column 1: 1 + 2 - 0.
        np.testing.assert_array_equal(curriculum.scores, [np.nan, 3.0, np.nan, 0.0, np.nan])
        # The open episode on task 2 ends in the next rollout: 1 + 0 - 3, 1 + 4 - 0.
        curriculum.update_rollout([[2, 2]], [[0.0, 0.0]], [[1, 0]], values=[[4.0, 0.0]])
        assert curriculum.scores[2] == 3.5

    def test_outcomes_come_from_the_rewards(self):
        curriculum = plr(evaluator=False, strategy="tscl_window")
        curriculum.update_rollout([[0], [0], [0]], [[1.0], [4.0], [2.0]], [[1], [0], [1]])
        assert curriculum.scores[0] == 5.0

    def test_other_columns(self):
        curriculum = plr(evaluator=False, strategy="value_disagreement")
        ensemble = [[[1.0, 3.0]], [[2.0, 2.0]]]
        curriculum.update_rollout([[0], [0]], [[0.0], [0.0]], [[0], [1]], value_ensemble=ensemble)
        assert curriculum.scores[0] == 0.5
        curriculum = plr(evaluator=False, strategy="alt_advantage_abs", gamma=1.0, gae_lambda=1.0)
        curriculum.update_rollout(
            [[0], [0]],
            [[1.0], [2.0]],
            [[0], [0]],
            [[0], [1]],
            values=[[1.0], [1.0]],
            alternative_values=[[9.0], [9.0]],
            final_values=[[0.0], [5.0]],
            final_alternative_values=[[0.0], [4.0]],
        )
        assert curriculum.scores[0] == 5.5  # the second critic returns 7 and 6: |7 - 1| and |6 - 1|

    def test_padding_is_no_data(self):
        curriculum = plr(evaluator=False, strategy="max_mc")
        curriculum.update_rollout(
            [[0], [0], [3]],
            [[1.0], [2.0], [50.0]],
            [[0], [1], [0]],
            values=[[1.0], [2.0], [9.0]],
            active=[[1], [1], [0]],
        )
        assert curriculum.scores[0] == 1.5
        assert np.isnan(curriculum.scores[3])

    def test_next_values_score_what_is_still_open(self):
        curriculum = plr(evaluator=False, gamma=1.0, gae_lambda=1.0)
        open_episode = {"tasks": [[0], [0]], "rewards": [[1.0], [1.0]], "terminations": [[0], [0]]}
        curriculum.update_rollout(**open_episode, values=[[0.0], [0.0]], next_values=[3.0])
        assert curriculum.scores[0] == 4.5  # 1 + 1 + 3 and 1 + 3
        curriculum.update_rollout([[0]], [[1.0]], [[1]], values=[[3.0]])
        assert curriculum.scores[0] == 2.0  # the rest is scored apart

    def test_the_best_return_counts_what_was_scored_before(self):
        curriculum = plr(evaluator=False, strategy="max_mc")
        curriculum.update_rollout([[0]], [[5.0]], [[0]], values=[[1.0]], next_values=[0.0])
        assert curriculum.scores[0] == 4.0
        curriculum.update_rollout([[0]], [[2.0]], [[1]], values=[[1.0]])
        assert curriculum.scores[0] == 6.0
        curriculum.update_rollout([[0]], [[-2.0]], [[1]], values=[[1.0]])
        assert curriculum.scores[0] == 6.0

    def test_from_afar(self):
        curriculum = plr(evaluator=False)
        rollout = {"tasks": [[4]], "rewards": [[1.0]], "terminations": [[True]], "values": [[0.25]]}
        curriculum.update_on_demand({"rollout": rollout})
        assert curriculum.scores[4] == 0.75
        lacking = {name: rollout[name] for name in ("tasks", "rewards", "values")}
        for wrong in ({**rollout, "dones": [[True]]}, lacking, [1]):
            with pytest.raises(
                TaskError, match=r"A rollout is a mapping with \['tasks', 'rewards', 'terminations'\]"
            ):
                curriculum.update_on_demand({"rollout": wrong})
        with pytest.raises(TaskError, match="either a 'rollout' or 'scores'"):
            curriculum.update_on_demand({"rollout": rollout, "tasks": [1], "scores": [1.0]})

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"tasks": [[0, 1]]}, "T rows of tasks"),
            ({"tasks": [[0, 1], [8, 1]]}, "not in DiscreteTaskSpace"),
            ({"tasks": [[0, 1], [0, 2]]}, "from task 1 to 2 between steps 0 and 1"),
            ({"rewards": [[0.0, np.nan]] * 2}, "rewards must be finite"),
            ({"rewards": [["a", "b"]] * 2}, "rewards must be an array of numbers"),
            ({"rewards": [0.0, 0.0]}, r"shape \(T, N\)"),
            ({"values": None}, "pass them as well"),
            ({"values": [[1.0]] * 2}, r"values must have shape \(2, 2\)"),
            ({"values": [[1.0, np.inf]] * 2}, "values must be finite"),
            ({"terminations": [[1], [1]]}, "terminations must have shape"),
            ({"truncations": [[1], [1]]}, "truncations must have shape"),
            ({"truncations": [[1, 1]] * 2, "terminations": [[0, 0]] * 2}, "pass final_values"),
            ({"active": [[1]]}, "active must have shape"),
            ({"next_values": [1.0]}, "next_values must be 2 numbers"),
        ],
    )
    def test_bad_rollouts_change_nothing(self, change, message):
        curriculum = plr(evaluator=False)
        good = {
            "tasks": [[0, 1], [0, 1]],
            "rewards": [[0.0, 1.0], [1.0, 2.0]],
            "terminations": [[1, 0], [1, 1]],
            "values": [[1.0, 1.0], [1.0, 1.0]],
        }
        curriculum.update_rollout(**good)
        before = pickle.dumps(curriculum.state_dict())
        with pytest.raises(TaskError, match=message):
            curriculum.update_rollout(**{**good, **change})
        assert pickle.dumps(curriculum.state_dict()) == before

    def test_final_values_must_be_finite_only_where_they_are_read(self):
        curriculum = plr(evaluator=False)
        arguments = ([[0], [0]], [[1.0], [1.0]], [[0], [0]], [[0], [1]])
        with pytest.raises(TaskError, match="finite at every truncation"):
            curriculum.update_rollout(*arguments, values=[[0.0], [0.0]], final_values=[[0.0], [np.nan]])
        curriculum.update_rollout(*arguments, values=[[0.0], [0.0]], final_values=[[np.nan], [0.0]])
        assert curriculum.scores[0] == pytest.approx((1 + 0.72 + 1) / 2)
