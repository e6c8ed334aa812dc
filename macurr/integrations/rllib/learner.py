"""The learner's part: what its critic said of each step goes back to the driver, for the levels' scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from ray.rllib.algorithms.ppo.torch.ppo_torch_learner import PPOTorchLearner
from ray.rllib.connectors.connector_v2 import ConnectorV2
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from ray.rllib.utils.metrics import ALL_MODULES
from ray.rllib.utils.numpy import convert_to_numpy
from ray.rllib.utils.postprocessing.zero_padding import unpad_data_if_necessary
from typing_extensions import override

from macurr.errors import UsageError
from macurr.integrations.rllib.env import TAG
from macurr.integrations.rllib.episodes import EpisodePart

__all__ = ["PARTS", "CurriculumPPOLearner", "ReportEpisodes"]

PARTS = "curriculum_episodes"
"""The learner's metric that holds the `EpisodePart`s, under those of all modules."""


class ReportEpisodes(ConnectorV2):  # type: ignore[misc]  # RLlib is not typed
    """The last piece of the learner's connectors: notes the rewards and values of what is about to be trained on.

    The values are those from which the advantages of this update are computed: the same network, before its weights
    change, on the same rows. It costs one forward pass of the value function over the train batch.
    """

    @override
    def __call__(
        self, *, rl_module: Any, batch: Any, episodes: Any, metrics: Any = None, **kwargs: Any
    ) -> Any:
        if metrics is not None:
            for part in self._parts(rl_module, batch, list(episodes)):
                metrics.log_value((ALL_MODULES, PARTS), part, reduce="item_series")
        return batch

    def _parts(self, rl_module: Any, batch: Any, episodes: list[Any]) -> Iterator[EpisodePart]:
        rows = list(self.single_agent_episode_iterator(episodes, agents_that_stepped_only=False))
        for name in [name for name in batch if name in rl_module]:
            module, own = rl_module[name].unwrapped(), [row for row in rows if row.module_id == name]
            if not own or not isinstance(module, ValueFunctionAPI):
                continue
            lengths = [len(row) for row in own]
            said = unpad_data_if_necessary(lengths, convert_to_numpy(module.compute_values(batch[name])))
            paid = unpad_data_if_necessary(lengths, convert_to_numpy(batch[name][Columns.REWARDS]))
            cuts = np.cumsum(lengths)[:-1]
            for row, values, rewards in zip(own, np.split(said, cuts), np.split(paid, cuts), strict=True):
                tag = row.get_infos(-1).get(TAG)
                if tag is not None:
                    yield _part(row, tag, values, rewards)


def _part(row: Any, tag: Any, values: Any, rewards: Any) -> EpisodePart:
    # The last row is RLlib's own: the step that it appends to have the value of what follows.
    return EpisodePart(
        tag=tag,
        agent=str(row.agent_id),
        start=int(row.t_started),
        rewards=np.array(rewards[:-1], np.float64),
        values=np.array(values[:-1], np.float64),
        final_value=float(values[-1]),
        terminated=bool(row.is_terminated),
    )


class CurriculumPPOLearner(PPOTorchLearner):  # type: ignore[misc]  # RLlib is not typed
    """RLlib's PPO learner, which also reports rewards and values by episode (see `EpisodePart`).

    Raises:
        UsageError: `add_default_connectors_to_learner_pipeline=False`, without which no advantages are computed.
    """

    @override
    def build(self) -> None:
        super().build()
        if self._learner_connector is None or not self.config.add_default_connectors_to_learner_pipeline:
            raise UsageError(
                "CurriculumPPOLearner reads the values that PPO's default connectors prepare. Leave "
                "add_default_connectors_to_learner_pipeline at True; connectors of your own go before them."
            )
        self._learner_connector.append(ReportEpisodes())
