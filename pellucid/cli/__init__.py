"""The command line, `pellucid COMMAND ...`; one file per command, each imported when it is asked for (floor 7)."""

from .shell import cli, main

__all__ = ["cli", "main"]
