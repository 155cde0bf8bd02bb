"""The command line, `pellucid COMMAND ...`: one file for each command, imported on demand (floor 11)."""

from .shell import cli, main

__all__ = ["cli", "main"]
