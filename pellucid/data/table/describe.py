"""What is found in a table: the role of each column, how it is read, and what looks like a target (floor 4).

Nothing is decided here: roles and readings are those of `infer.py`, `identifiers.py` and `partition.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from ...errors import PellucidError
from ..base import OptionValue, Source
from ..description import ColumnDescription, Description, describe_module, or_refusal, sorted_notes, train_command
from ..description_text import shell_word
from .dates import CLOCK
from .delimited import MISSING_INPUT
from .duplicates import first_rows
from .findings import Findings
from .folds import fold_note
from .identifiers import find_identifiers, name_words
from .infer import CONSTANT, clean_target, infer_column
from .large import LargeTable
from .load import TablePlan, open_table, plan_table, table_module
from .preprocess import CategoryColumn, DateColumn, NumberColumn
from .read import Table
from .targets import decide_target

EXAMPLES = 3
LONGEST_EXAMPLE = 24  # characters
MOST_CANDIDATES = 3
GLANCE = 1000  # rows that are tried before all are
LEAST_STEPS = 10  # rows for each value of a column that tells series apart
LEARNED = ("number", "category", "date", "time", "text")  # roles of columns that training learns from
TARGET_NAMES = "target label labels class y outcome output response species sentiment diagnosis"
MAY_BE_TARGETS = "price score rating category type result cost sales income survived churn fraud default"  # inputs, too
Role = tuple[str, str]  # of a column, and how it is read
TITLE = "a table of separate rows"


def describe_table(source: Source, columns: Sequence[str] = ()) -> Description:
    """columns: the names of a table without a header. Raises as `load_table` does for a file or options that cannot be used."""
    table, large = open_table(source, columns)
    if "target" not in source.options:
        return _without_target(source, table)
    return or_refusal(lambda: _with_target(source, table, large), lambda: _unlearned(source, table))


# ---- with a target -----------------------------------------------------------------------------------------------------


def _with_target(source: Source, table: Table, large: LargeTable | None) -> Description:
    record = {**source.record}
    plan = plan_table(source, table)
    data = table_module(source, plan, large)
    if data.folds is not None:
        data.notes.append(fold_note(sum(map(len, plan.partition.rows))))
    columns = described_columns(table, _planned_roles(plan, source.options))
    return describe_module(TITLE, data, record, rows=_rows(table), columns=columns)


def _unlearned(source: Source, table: Table) -> Description:
    """The columns of a table that cannot be learned from."""
    target = table.position(source.options["target"])
    roles = _roles(table, [position for position in range(len(table.names)) if position != target])
    columns = described_columns(table, {target: ("target", ""), **roles})
    name, notes = table.names[target], tuple(table.notes)
    return Description(source.spec, "table", TITLE, _rows(table), columns, name, notes=notes)


def _rows(table: Table) -> int:
    """The rows of the file, of which a large table's were drawn."""
    return len(table) if table.drawn_from is None else table.drawn_from


def _planned_roles(plan: TablePlan, options: Mapping[str, OptionValue]) -> dict[int, Role]:
    """The role of each column in a training, by its position."""
    question, found = plan.question, plan.partition
    table = question.table
    roles: dict[int, Role] = dict.fromkeys(question.drop, ("left out", "as --drop says"))
    for position, what in found.left_out.items():
        roles[position] = ("identifier", what)
    if question.weight is not None:
        roles[question.weight] = ("weights", "--row-weight")
    rest = [p for p in range(len(table.names)) if p not in roles and p != question.target]
    roles |= _inferred(table, rest, found.rows[0])
    if "group" in options:
        position = table.position(options["group"])
        roles[position] = ("group", "kept on one side")
    form = _inferred(table, [question.target], found.rows[0]) if question.task in ("regression", "counts") else {}
    return {question.target: ("target", form.get(question.target, ("", ""))[1]), **roles}


# ---- without one -------------------------------------------------------------------------------------------------------


def _without_target(source: Source, table: Table) -> Description:
    """The columns as all rows show them, and which of them look like a target."""
    everywhere = range(len(table.names))
    roles = _roles(table, everywhere)
    candidates = find_candidates(table, roles)
    findings = Findings()
    for position in everywhere:
        if roles[position][0] in LEARNED:
            infer_column(table, position, np.arange(len(table)), findings)
    notes = [*table.notes, *findings.notes()]
    if copies := len(table) - len(first_rows(table, list(everywhere))):
        notes.append(f"rows: {copies:,} of {len(table):,} repeat others in every column")
    facts = {} if candidates else {"targets": "no column looks like one"}
    if series := _series_words(table, roles):
        facts["series"] = series
    facts["more"] = "with --target: leaks, copies, the split and the classes"
    best = next(iter(candidates), "NAME")
    return Description(
        source.spec,
        "table",
        TITLE,
        len(table),
        described_columns(table, roles),
        facts=facts,
        candidates=candidates,
        notes=tuple(sorted_notes(notes)),
        next=train_command(source.record, target=best).replace("pellucid train", "pellucid doctor", 1),
    )


def find_candidates(table: Table, roles: Mapping[int, Role]) -> dict[str, str]:
    """The columns that look like a target, by their names, their place and what they hold, and what each would be learned as."""
    able = [position for position, (role, _) in roles.items() if role in ("number", "category")]
    order = sorted(able, key=lambda position: (-_likeness(table, position), -position))
    found: dict[str, str] = {}
    for position in order:
        present = np.array([value is not None for value in table.columns[position].tolist()])
        try:
            rows, _ = clean_target(table.take(np.flatnonzero(present)), position, None, None, [])
            note = decide_target(rows, position, {}, None)[2]
        except PellucidError:
            continue
        told = note.partition(": ")[2]
        if roles[position][0] == "number" and told.startswith("text"):  # numbers with words for gaps
            continue
        found[table.names[position]] = told
        if len(found) == MOST_CANDIDATES:
            break
    return found


def _likeness(table: Table, position: int) -> float:
    """How much a column looks like a target by its name and its place: the last one, or the first."""
    words = set(name_words(table.names[position]))
    named = 3 if words & set(TARGET_NAMES.split()) else 1.5 if words & set(MAY_BE_TARGETS.split()) else 0
    return named + {len(table.names) - 1: 2, 0: 1}.get(position, 0)


def _series_words(table: Table, roles: Mapping[int, Role]) -> str:
    """Where dates rise from row to row, in the whole table or in the rows of each value of a column: how to forecast; else ""."""
    dates = [position for position, (role, _) in roles.items() if role == "date"]
    categories = [position for position, (role, _) in roles.items() if role in ("category", "number")]
    for time in dates:
        column = infer_column(table, time, np.arange(len(table)), Findings())
        assert isinstance(column, DateColumn)
        moments = column.read(table.columns[time])[0].utc
        name = table.names[time]
        if _rises(moments):
            return f"the dates of {name} rise from row to row; to forecast: --time-column {shell_word(name)}"
        for position in categories:
            cells = table.columns[position]
            if _rises_within(moments[:GLANCE], cells[:GLANCE]) and _rises_within(moments, cells):
                which = table.names[position]
                return (
                    f"the dates of {name} rise for each {which}; to forecast: --time-column {shell_word(name)} "
                    f"--series {shell_word(which)}"
                )
    return ""


def _rises(moments: np.ndarray) -> bool:
    return len(moments) > 2 and bool(np.all(np.diff(moments) > 0))


def _rises_within(moments: np.ndarray, cells: np.ndarray) -> bool:
    """Whether moments (N,) rise among the rows that share a cell, which are LEAST_STEPS on average at least."""
    known: dict[str | None, int] = {}
    codes = np.array([known.setdefault(cell, len(known)) for cell in cells.tolist()])
    order = np.argsort(codes, kind="stable")
    same = np.diff(codes[order]) == 0
    return len(known) * LEAST_STEPS <= len(cells) and bool(np.all(np.diff(moments[order])[same] > 0))


# ---- columns -----------------------------------------------------------------------------------------------------------


def _roles(table: Table, positions: Sequence[int]) -> dict[int, Role]:
    """What columns are by all rows, before there is a split."""
    named = find_identifiers(table, positions, first_rows(table, list(positions)))
    rest = [position for position in positions if position not in named]
    return {p: ("identifier", what) for p, what in named.items()} | _inferred(table, rest, np.arange(len(table)))


def _inferred(table: Table, positions: Sequence[int], rows: np.ndarray) -> dict[int, Role]:
    """What each column is learned as, by the training `rows`, and what was found in its cells."""
    roles: dict[int, Role] = {}
    for position in positions:
        if not any(map(_is_there, table.columns[position].tolist())):
            roles[position] = ("empty", "no value in any row")
            continue
        try:
            roles[position] = _role(table, position, rows)
        except PellucidError as error:
            roles[position] = ("left out", str(error))
    return roles


def _role(table: Table, position: int, rows: np.ndarray) -> Role:
    findings, name = Findings(), table.names[position]
    column = infer_column(table, position, rows, findings)
    told = [fact.removeprefix(name).lstrip(": ") for fact in findings.facts()]
    if isinstance(column, str):
        return ("constant", "") if column == CONSTANT else ("left out", column)
    if isinstance(column, NumberColumn):
        return "number", "; ".join(told)
    if isinstance(column, DateColumn):
        return "time" if column.form == CLOCK else "date", "; ".join(told)
    return ("category" if isinstance(column, CategoryColumn) else "text"), "; ".join(told)


def described_columns(table: Table, roles: Mapping[int, Role]) -> tuple[ColumnDescription, ...]:
    """A description of each column, in the order of the table."""
    return tuple(_described(table, position, *roles[position]) for position in range(len(table.names)))


def _described(table: Table, position: int, role: str, reading: str) -> ColumnDescription:
    counts = Counter(table.columns[position].tolist())
    gaps = sum(count for value, count in counts.items() if not _is_there(value))
    values = [value for value in counts if _is_there(value)]
    often = role in ("category", "target") and len(values) < len(table)
    if often:
        values.sort(key=lambda value: -counts[value])
    shown = [value if len(value) <= LONGEST_EXAMPLE else value[: LONGEST_EXAMPLE - 1] + "…" for value in values]
    return ColumnDescription(table.names[position], role, reading, gaps, len(values), tuple(shown[:EXAMPLES]))


def _is_there(value: str | None) -> bool:
    return value is not None and value.lower() not in MISSING_INPUT
