"""The command `macurr`: train, evaluate, compare and report from a shell.

Exit codes: 0 done; 2 something asked for cannot be done, said in one message on the error stream; 130 interrupted by
Ctrl-C, with everything saved. The extras are imported by the sub-command that needs them.
"""

from macurr.cli.command import main

__all__ = ["main"]
