"""An environment's module that needs another, whose name is a part of its own."""

import need  # noqa: F401  # it is not there
