"""Everything macurr raises on purpose.

```text
MacurrError
├── TaskError (ValueError)               a task, score or result that does not fit its space
├── UsageError (RuntimeError)            a call that cannot work as written: wrong order, wrong partner
├── ConfigError (ValueError)             a run's settings, directory or environment cannot be used
├── StateError (ValueError)              a state that does not belong to the object it is loaded into
├── CurriculumError (RuntimeError)       the curriculum itself failed; its exception is the cause
├── PoolError (RuntimeError)             the snapshots on disk cannot be read or written
├── SolverError (RuntimeError)           a meta-solver got no solution
├── TrainingError (RuntimeError)         training cannot go on: a loss or gradient is not finite
├── TransportError (RuntimeError)        the link between environments and curriculum
│   ├── CurriculumLost (ConnectionError) the curriculum's process or host is gone
│   ├── WorkerLost (ConnectionError)     a process that steps environments is gone
│   ├── TaskTimeoutError (TimeoutError)  no task arrived in time
│   └── BacklogError                     updates come in faster than the curriculum applies them
└── MissingDependencyError (ImportError) an optional package is needed
```

Every message says what came, what is wanted and what to do.
"""

from __future__ import annotations


class MacurrError(Exception):
    """The root of everything macurr raises on purpose."""


class TaskError(MacurrError, ValueError):
    """A task, score or result does not fit the task space or the curriculum it is meant for."""


class UsageError(MacurrError, RuntimeError):
    """A call that cannot work as written: in the wrong order, or on the wrong kind of object."""


class ConfigError(MacurrError, ValueError):
    """A run's settings, its directory or its environment cannot be used."""


class StateError(MacurrError, ValueError):
    """A state does not belong to the object it is loaded into; the object is unchanged."""


class CurriculumError(MacurrError, RuntimeError):
    """The curriculum failed while it handled a request; the original exception is the cause."""


class PoolError(MacurrError, RuntimeError):
    """Snapshots cannot be read from or written to their directory; the pool is unchanged."""


class SolverError(MacurrError, RuntimeError):
    """A meta-solver was given a game it cannot solve, or did not converge."""


class TrainingError(MacurrError, RuntimeError):
    """Training cannot go on: a loss or a gradient is not finite. The weights are those of before the step."""


class TransportError(MacurrError, RuntimeError):
    """The link between an environment and its curriculum or its learner failed."""


class CurriculumLost(TransportError, ConnectionError):
    """The process or actor that owns the curriculum is gone or was closed."""


class WorkerLost(TransportError, ConnectionError):
    """A process that steps environments is gone. Its episodes are lost; a new one can begin others."""


class TaskTimeoutError(TransportError, TimeoutError):
    """An environment waited longer than `timeout` seconds for its next task."""


class BacklogError(TransportError):
    """An environment's unapplied updates exceeded `maxsize` for longer than `timeout` seconds."""


class MissingDependencyError(MacurrError, ImportError):
    """An optional package is needed; the message names the extra that installs it."""

    @classmethod
    def for_extra(cls, package: str, extra: str, purpose: str) -> MissingDependencyError:
        """The error for a missing `package` that the extra `extra` would bring.

        Args:
            package: What could not be imported.
            extra: The optional extra of macurr that installs it.
            purpose: What it is needed for, as the subject of a sentence.
        """
        return cls(f"{purpose} needs {package}, which is not installed: pip install 'macurr[{extra}]'")
