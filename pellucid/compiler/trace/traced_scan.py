"""What tracing a scan has found, as dataclasses: the call, one run of its body, and the operation it became (floor 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...core.op import Node
from ...core.value import Symbol, Value
from ...ops.loop import Body, Nest, part, tree_leaves
from ...ops.movement import reshape
from ...tensor import Tensor
from ..ir.scan_body import ScanBody, extract_body, update_scan
from .recording import Recording


@dataclass(frozen=True, eq=False)
class ScanCall:
    """The arguments of `scan`, see `ops/loop.py`."""

    body: Body
    carry: Nest
    xs: Nest
    length: int
    reverse: bool

    @property
    def carry_leaves(self) -> list[Tensor]:
        return tree_leaves(self.carry)

    @property
    def sequences(self) -> list[Tensor]:
        return tree_leaves(self.xs)


@dataclass(frozen=True, eq=False)
class BodyRun:
    """One run of a body on Symbols.

    needs_grad: for each leaf of the carry. state: Tensors that are carried behind these leaves, because the body writes them.
    carry, x: the values that stood for everything carried and for one element of each sequence.
    symbols: the operations. since: the number from which on Nodes belong to the body.
    next_carry, y: what the body has returned. next_state: what `state` held afterwards.
    outer_values: the values from outside that it has read.
    """

    needs_grad: list[bool]
    state: list[Tensor]
    carry: list[Tensor]
    x: list[Tensor]
    symbols: list[Symbol]
    since: int
    next_carry: Nest
    y: Nest
    next_state: list[Symbol]
    outer_values: list[Value]

    @property
    def carry_out(self) -> list[Tensor]:
        return tree_leaves(self.next_carry)

    @property
    def stacked(self) -> list[Tensor]:
        return tree_leaves(self.y)

    @property
    def inputs(self) -> list[Symbol]:
        return [v.array for v in (*self.carry, *self.x)]

    def outer_parents(self) -> list[Node | Value]:
        """What the body depends on outside of it, on the tape."""
        parents: dict[int, Node | Value] = {}
        visited: set[int] = set()
        own = {id(v) for v in (*self.carry, *self.x)}
        waiting: list[Node | Value] = [v.node or v for v in (*self.carry_out, *self.stacked) if v.requires_grad]
        while waiting:
            node = waiting.pop()
            if not isinstance(node, Node) or node.sequence < self.since:
                if id(node) not in own:
                    parents[id(node)] = node
            elif node.sequence not in visited:
                visited.add(node.sequence)
                waiting.extend(parent for parent in node.parents if parent is not None)
        return list(parents.values())


@dataclass(frozen=True, eq=False)
class TracedScan:
    """A scan as an operation of the graph. The gradient adds to what it stacks.

    symbol: the operation. operands: its first inputs, for everything carried and the sequences. roots: the Symbols of the
    body that it gives, first those that are carried, then those that are stacked.
    around: the operations among which it stands. outer_parents: see `BodyRun`; in the order of the Node's last parents.
    """

    call: ScanCall
    run: BodyRun
    symbol: Symbol
    operands: list[Symbol]
    roots: list[Symbol]
    around: list[Symbol]
    outer_parents: Sequence[Node | Value]

    @property
    def carries(self) -> int:
        """How many values are carried."""
        return len(self.run.carry)

    def stacked_residual(self, symbol: Symbol, recording: Recording) -> Symbol:
        """`symbol` of the body at every step, (T, ...), outside of the scan. The scan stacks it from now on."""
        stacked = self.roots[self.carries :]
        if symbol not in stacked:
            stacked.append(symbol)
            self.roots.append(symbol)
            update_scan(self.symbol, *body_graph(self.call, self.run, self.roots, self.operands))
        with recording.into(self.around):
            return stack(
                Tensor(self.symbol), self.carries + stacked.index(symbol), self.call.length, symbol.shape
            ).array


def body_graph(
    call: ScanCall, run: BodyRun, roots: Sequence[Symbol], operands: Sequence[Symbol]
) -> tuple[ScanBody, list[Symbol]]:
    """The body that gives `roots`, and the inputs of its scan: `operands`, and what the body reads from outside."""
    given = {x: x for x in run.inputs}
    body, outside = extract_body(roots, run.symbols, given, len(run.carry), call.length, call.reverse)
    return body, [*operands, *outside]


def stack(scan: Tensor, index: int, length: int, shape: tuple[int, ...]) -> Tensor:
    """A stacked output of a scan, (T, *shape)."""
    return reshape(part(scan, what="stack", index=index), shape=(length, *shape))
