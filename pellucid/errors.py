"""The errors pellucid raises, as an outline; it imports nothing of the library (floor 0).

PellucidError                 anything a user can put right; the command line prints it and exits with code 2
├── ShapeError (ValueError)       shapes or axes that do not fit an operation
├── DTypeError (TypeError)        element types that do not fit an operation
├── IndexRangeError (IndexError)  an index beyond the axis it points into
├── GradientError (RuntimeError)  a backward pass that cannot be done, or would be wrong
├── TraceError (RuntimeError)     a step that cannot be recorded as it stands
├── StateError (RuntimeError)     weights or checkpoints that do not fit where they are loaded
├── DataError (ValueError)        a file or its contents; names the file and, where there is one, the row
├── OptionError (ValueError)      an argument or command-line option outside its range
└── NonFiniteError (ArithmeticError)  the loss became NaN or infinite; exit code 3

A message names four things: where it happened, what came, what was expected, what to do next. Low floors raise the bare
fact; `nn.Module` and the command line add the path (`in_module`), once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class PellucidError(Exception):
    """Base of every error that pellucid raises on purpose."""

    where: str | None = None

    def __str__(self) -> str:
        message = super().__str__()
        return f"{self.where}: {message}" if self.where else message


class ShapeError(PellucidError, ValueError):
    """Shapes or axes do not fit the operation."""


class DTypeError(PellucidError, TypeError):
    """Element types do not fit the operation."""


class IndexRangeError(PellucidError, IndexError):
    """An index lies beyond the axis it points into."""


class GradientError(PellucidError, RuntimeError):
    """The backward pass cannot be done, or its result would be wrong."""


class TraceError(PellucidError, RuntimeError):
    """The step cannot be recorded as it stands."""


class StateError(PellucidError, RuntimeError):
    """Saved weights or a checkpoint do not fit where they are loaded."""


class DataError(PellucidError, ValueError):
    """A data file, or what stands in it, cannot be used."""


class OptionError(PellucidError, ValueError):
    """An argument or a command-line option is outside its range."""


class NonFiniteError(PellucidError, ArithmeticError):
    """The loss became NaN or infinite."""


def in_module(error: PellucidError, path: str) -> PellucidError:
    """Say where `error` happened, unless a deeper layer has said so already."""
    if error.where is None:
        error.where = path
    return error


def format_shape(shape: Sequence[int]) -> str:
    """A shape as messages show it: `(32, 783)`, `(5,)`, `()`."""
    inside = ", ".join(str(size) for size in shape)
    return f"({inside},)" if len(shape) == 1 else f"({inside})"


def names_of(owner: str, option: str, value: object, known: Iterable[str] | None = None) -> tuple[str, ...]:
    """`value`, a name or several, as a tuple of names: a str is one name, and never its letters.

    Raises OptionError where it holds something else, or a name that is not among `known`.
    """
    names = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, Iterable) else (value,)
    choices = None if known is None else list(known)
    for name in names:
        if not isinstance(name, str):
            raise OptionError(
                f'{owner}: {option} holds {name!r}; expected names, such as {option}=["a", "b"], or one of them'
            )
        if choices is not None and name not in choices:
            raise OptionError(
                f"{owner}: {option} names {name!r}; expected {', '.join(choices) or 'none'}.{suggestion(name, choices)}"
            )
    return tuple(str(name) for name in names)


def suggestion(name: str, choices: Iterable[str]) -> str:
    """` Did you mean 'income'?` when one of `choices` is close to `name`, else the empty string."""
    matches = get_close_matches(name, list(choices), n=1, cutoff=0.65)
    return f" Did you mean {matches[0]!r}?" if matches else ""
