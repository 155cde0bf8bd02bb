"""The command group: it finds commands by name, and turns every failure into one line and an exit code (floor 11).

    0 done    1 a bug of pellucid (the traceback is saved)    2 input, option or disk    3 non-finite numbers
    130 Ctrl-C; `train` saves a checkpoint first

Errors go to stderr as one line. Stdout holds results or nothing.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import click

from ..errors import NonFiniteError, PellucidError, suggestion
from ..runs.renamed import new_name

# The question that a command answers -> name -> its line in `pellucid --help`. Its module has the same name and is imported on
# demand.
QUESTIONS = {
    "What is in my data?": {
        "doctor": "What is in your data, and what would mislead.",
        "labels": "Training examples whose label a trained network doubts.",
        "datasets": "List the data sets known by name.",
    },
    "How do I train a network?": {
        "train": "Train a network on a data set, a table or a folder.",
        "tune": "Search for better settings, and train with the best.",
    },
    "How good is it?": {
        "evaluate": "Score a network on its test data, or on other data.",
        "runs": "List the runs under runs/ with their scores.",
    },
    "What does it answer?": {
        "predict": "Predict for new rows, images, a series or a text.",
        "sample": "Generate text or images.",
    },
    "Why did it say so?": {
        "explain": "What mattered for one answer, and what would turn it.",
        "trace": "One step of training, number by number.",
        "blame": "Which weights, units, heads, layers, inputs or examples did it.",
    },
    "What is inside?": {
        "features": "What its units have learned to see.",
        "attention": "Where its heads look, and what each is worth.",
        "landscape": "The loss around its weights, and on the way to another run.",
        "summary": "The layers, shapes and parameters of a network.",
    },
}
COMMANDS = {name: line for own in QUESTIONS.values() for name, line in own.items()}


class Stopped(Exception):
    """Raised after Ctrl-C, once everything is saved; the message says how to continue."""


class Shell(click.Group):
    """The group of commands; its `main` turns errors into lines and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f".{cmd_name}", __package__).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for question, commands in QUESTIONS.items():  # without importing any of them
            formatter.write_paragraph()
            formatter.write(f"{question}\n")
            with formatter.indentation():
                formatter.write_dl([(name.ljust(width), line) for name, line in commands.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[Any, Any, list[str]]:
        if args and args[0] not in COMMANDS:
            hint = suggestion(args[0], COMMANDS) or f" Expected one of {', '.join(COMMANDS)}."
            raise click.UsageError(f"no such command: {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        extra.pop("standalone_mode", None)
        sys.exit(self._run(list(sys.argv[1:] if args is None else args), extra))

    def _run(self, args: list[str], extra: dict[str, Any]) -> int:
        command = " ".join(["pellucid", *args[:1]]) if args and args[0] in COMMANDS else "pellucid"
        try:
            with _warnings_as_lines():
                result = super().main(args, prog_name="pellucid", standalone_mode=False, **extra)
            return result if isinstance(result, int) else 0
        except click.exceptions.Exit as exit:
            return exit.exit_code
        except click.ClickException as error:
            return _say(command, _usage_words(error), 2)
        except NonFiniteError as error:
            return _say(command, str(error), 3)
        except PellucidError as error:
            return _say(command, str(error), 2)
        except Stopped as stopped:
            return _say(command, str(stopped), 130)
        except (KeyboardInterrupt, click.Abort):
            return _say(command, "stopped by Ctrl-C", 130)
        except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except MemoryError:
            return _say(
                command,
                "out of memory; expected data and network to fit into it; use a lower --batch-size or fewer rows",
                2,
            )
        except OSError as error:
            name = f"{error.filename}: " if error.filename else ""
            return _say(
                command,
                f"{name}{(error.strerror or type(error).__name__).lower()}; check the path, its permissions and the disk",
                2,
            )
        except Exception:
            return _say(
                command,
                f"a bug of pellucid, not yours; please report it with its traceback, which was saved to {_save_traceback()}",
                1,
            )


def _say(where: str, message: str, code: int) -> int:
    with contextlib.suppress(OSError):
        click.echo(f"{where}: {' '.join(message.split())}", err=True)
    return code


def _usage_words(error: click.ClickException) -> str:
    """Click's error as one line, with the option and what to do next."""
    command = getattr(error, "ctx", None) and error.ctx.command  # type: ignore[attr-defined]
    if isinstance(error, click.NoSuchOption):
        options = [
            name
            for p in (command.params if command else ())
            for name in (*p.opts, *p.secondary_opts)
            if name.startswith("--")
        ]
        names = {option[2:].replace("-", "_") for option in options}
        renamed = new_name(error.option_name, names)
        if renamed:
            return f"no such option: {error.option_name}; it is called {renamed}; write {renamed}"
        see = f"see pellucid {command.name} --help" if command and command.name in COMMANDS else "see pellucid --help"
        return f"no such option: {error.option_name}.{suggestion(error.option_name, [*options, '--help']) or f' {see}'}"
    if isinstance(error, click.BadParameter) and error.param is not None:
        name = error.param.opts[-1] if error.param.param_type_name == "option" else (error.param.human_readable_name)
        if isinstance(error, click.MissingParameter):
            return f"missing argument {name}; see pellucid {command.name if command else ''} --help"
        return f"{name}: {error.message.rstrip('.')}"
    message = error.format_message().rstrip()
    return message if message[1:2].isupper() else message[:1].lower() + message[1:]


def _save_traceback() -> str:
    """Write the current traceback to a new file in the temporary folder, and return its path."""
    try:
        handle, path = tempfile.mkstemp(prefix="pellucid-traceback-", suffix=".txt")
        with open(handle, "w", encoding="utf-8") as file:
            file.write(" ".join(sys.argv) + "\n\n" + traceback.format_exc())
        return path
    except OSError:
        return "nowhere (the disk is full): " + traceback.format_exc().splitlines()[-1]


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Show warnings as one line on stderr, without Python's file and line."""

    def show(message: Any, category: Any, *rest: Any, **more: Any) -> None:
        if issubclass(category, UserWarning):
            click.echo(f"note: {message}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


@click.group(
    cls=Shell,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="pellucid", message="pellucid %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Neural networks you can see through: train one on tables, images, texts or series, and look inside.

    \b
    pellucid train digits                          a first network, in seconds
    pellucid doctor people.csv                     what is in your own table
    pellucid train people.csv --target income      and a network that learns from it
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main() -> None:
    """The entry point of the command `pellucid`."""
    cli.main()
