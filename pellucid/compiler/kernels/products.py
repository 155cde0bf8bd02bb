"""Matrix products: a tile of sums in registers, and what follows elementwise while they are there (floor 4).

One microkernel: sum[m][v] += splat(a[m]) * b[v], for the rows m of a tile and a few vectors v, along k. It serves every
orientation, as the operand with its own axis contiguous gives the vectors and the other is read number by number, where
it lies. For a handful of rows, such as one example, vectors along k are used instead. k is never shared among threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..llvm import Builder
from ..recipe import Load, Recipe
from .body import Frame, Index, split

FAR = 1 << 17  # numbers: where the vector operand is larger, it is read once and the rows again and again


def tiles(size: int, most: int) -> list[tuple[int, int, int]]:
    """`size` cut into parts of at most `most`: (where a run of equal parts begins, how many, their size).

    Equal parts where they are not much smaller, since each size is code of its own; else near-equal ones.
    """
    if size == 0:
        return []
    for part in range(most, (most + 1) // 2, -1):
        if size % part == 0:
            return [(0, size // part, part)]
    count = -(-size // most)
    small, larger = divmod(size, count)
    runs = [(0, larger, small + 1)] if larger else []
    return [*runs, (larger * (small + 1), count - larger, small)] if count - larger else runs


class Writer:
    """One product kernel being written."""

    def __init__(
        self, builder: Builder, recipe: Recipe, pointers: Sequence[Any], flag: Any, thread: Any, threads: Any
    ) -> None:
        assert recipe.product is not None
        self.builder, self.recipe, self.pointers, self.flag = builder, recipe, pointers, flag
        self.thread, self.threads, self.lanes = thread, threads, builder.lanes
        self.product = recipe.product


class Tile(Writer):
    """Tiles of sums: the `vectors` operand and its axis against the `splat` operand and its axis."""

    def __init__(self, builder: Builder, recipe: Recipe, *rest: Any) -> None:
        super().__init__(builder, recipe, *rest)
        product = self.product
        sides = [(product.a, product.rows), (product.b, product.columns)]
        (self.splat, self.row_axis), (self.vectors, self.lane_axis) = sides if product.vector == "n" else sides[::-1]
        self.rows = 1 if self.row_axis is None else recipe.domain[self.row_axis]
        self.columns = 1 if self.lane_axis is None else recipe.domain[self.lane_axis]
        self.batch = [a for a in range(len(recipe.domain)) if a not in (self.row_axis, self.lane_axis)]
        target, units = builder.target, -(-self.columns // self.lanes)
        wide = min(target.vectors, units)
        self.row_runs = tiles(self.rows, min(28, target.rows * target.vectors // wide))
        self.column_runs = tiles(units, wide)

    def emit(self) -> None:
        """Batches outermost; then the larger operand is read once, and the smaller stays near."""
        row_tiles, panels = (sum(count for _, count, _ in runs) for runs in (self.row_runs, self.column_runs))
        first = self.recipe.domain[self.batch[0]] if self.batch else 1
        share = "batch" if first >= 8 else "rows" if row_tiles >= min(4, panels) else "columns"
        far = self.product.size * self.columns > FAR

        def body(indices: dict[int, Index]) -> None:
            rows = lambda inner: self._run(self.row_runs, row_tiles, share == "rows", False, inner)
            ragged = self.columns % self.lanes != 0
            columns = lambda inner: self._run(self.column_runs, panels, share == "columns", ragged, inner)
            if far:
                columns(lambda c, wide, last: rows(lambda r, high, _: self._tile(indices, r, high, c, wide, last)))
            else:
                rows(lambda r, high, _: columns(lambda c, wide, last: self._tile(indices, r, high, c, wide, last)))

        self._batches(self.batch, {}, share == "batch", body)

    def _batches(
        self, axes: list[int], indices: dict[int, Index], shared: bool, body: Callable[[dict[int, Index]], None]
    ) -> None:
        if not axes:
            body(indices)
            return
        size = self.recipe.domain[axes[0]]
        first, last = split(self.builder, size, self.thread, self.threads) if shared else (0, size)
        self.builder.loop(first, last, 1, lambda i: self._batches(axes[1:], {**indices, axes[0]: (i, 0)}, False, body))

    def _run(
        self, runs: list[tuple[int, int, int]], total: int, shared: bool, apart: bool, body: Callable[..., None]
    ) -> None:
        """Call body(start, size, last) for every tile, or for this thread's share; apart: the last of all is another."""
        builder, seen = self.builder, 0
        first, last = split(builder, total, self.thread, self.threads) if shared else (None, None)
        for run, (start, count, size) in enumerate(runs):
            final = apart and run == len(runs) - 1
            inner = count - 1 if final else count
            place = lambda t, start=start, size=size, seen=seen: builder.add(
                builder.index(start), builder.mul(builder.sub(t, builder.index(seen)), builder.index(size))
            )
            low, high = (seen, seen + inner)
            if shared:
                low, high = self._clipped(first, low, "max"), self._clipped(last, high, "min")
            builder.loop(low, high, 1, lambda t, place=place, size=size: body(place(t), size, False))
            if final:
                end = builder.index(start + inner * size)
                if shared:
                    number = builder.index(total - 1)
                    mine = builder.and_(
                        builder.icmp_signed("<=", first, number), builder.icmp_signed(">", last, number)
                    )
                    with builder.when(mine):
                        body(end, size, True)
                else:
                    body(end, size, True)
            seen += count

    def _clipped(self, value: Any, bound: int, how: str) -> Any:
        limit = self.builder.index(bound)
        keep = self.builder.icmp_signed(">" if how == "max" else "<", value, limit)
        return self.builder.select(keep, value, limit)

    def _tile(self, indices: dict[int, Index], row: Any, high: int, unit: Any, wide: int, last: bool) -> None:
        builder = self.builder
        column = builder.mul(unit, builder.index(self.lanes))
        indices = dict(indices)
        if self.row_axis is not None:
            indices[self.row_axis] = (row, 0)
        if self.lane_axis is not None:
            indices[self.lane_axis] = (column, 0)
        rest = self.columns % self.lanes
        masks = [builder.first_lanes(rest) if last and v == wide - 1 and rest else None for v in range(wide)]
        frame = Frame(builder, self.pointers, self.flag, indices, self.lane_axis)
        sums = self._sums(frame, high, wide, masks)
        for m in range(high):
            for v in range(wide):
                extras = {
                    axis: n for axis, n in ((self.row_axis, m), (self.lane_axis, v * self.lanes)) if axis is not None
                }
                point = frame.moved(extras, masks[v])
                values = point.run(self.recipe, {0: sums[m * wide + v]})
                for store in self.recipe.stores:
                    point.store(store, values[store.step])

    def _sums(self, frame: Frame, high: int, wide: int, masks: list[Any]) -> list[Any]:
        """The microkernel."""
        builder, dtype = self.builder, self.vectors.dtype
        a = frame.address(self.splat.pointer, self.splat.offset, self.splat.strides[:-1], dtype)
        b = frame.address(self.vectors.pointer, self.vectors.offset, self.vectors.strides[:-1], dtype)
        step = 0 if self.row_axis is None else self.splat.strides[self.row_axis]

        def body(_: Any, a: Any, b: Any, *sums: Any) -> list[Any]:
            lines = [self._line(builder.at(b, v * self.lanes), dtype, masks[v]) for v in range(wide)]
            new = []
            for m in range(high):
                number = builder.splat(builder.load_scalar(builder.at(a, m * step), dtype))
                new += [builder.multiply_add(number, lines[v], sums[m * wide + v]) for v in range(wide)]
            return [builder.at(a, self.splat.strides[-1]), builder.at(b, self.vectors.strides[-1]), *new]

        zeros = [builder.constant(0.0)] * (high * wide)
        return builder.loop(0, self.product.size, 1, body, [a, b, *zeros])[2:]

    def _line(self, address: Any, dtype: str, mask: Any) -> Any:
        if self.lane_axis is None:
            return self.builder.splat(self.builder.load_scalar(address, dtype))
        return self.builder.load_vector(address, dtype, mask)


class Dots(Writer):
    """A product of few rows: each result is a sum over k in lanes, `lanes` results at a time."""

    def __init__(self, builder: Builder, recipe: Recipe, *rest: Any) -> None:
        super().__init__(builder, recipe, *rest)
        product = self.product
        sizes = [1 if axis is None else recipe.domain[axis] for axis in (product.rows, product.columns)]
        sides = [(product.a, product.rows), (product.b, product.columns)]
        (self.one, self.few), (self.many, self.lane_axis) = sides if sizes[1] >= sizes[0] else sides[::-1]
        self.outer = [axis for axis in range(len(recipe.domain)) if axis != self.lane_axis]

    def emit(self) -> None:
        size = 1 if self.lane_axis is None else self.recipe.domain[self.lane_axis]
        part = split(self.builder, -(-size // self.lanes), self.thread, self.threads)
        self._outer(self.outer, {}, size, part)

    def _outer(self, axes: list[int], indices: dict[int, Index], size: int, part: Any) -> None:
        builder, lanes = self.builder, self.lanes
        if axes:
            body = lambda i: self._outer(axes[1:], {**indices, axes[0]: (i, 0)}, size, part)
            builder.loop(0, self.recipe.domain[axes[0]], 1, body)
            return
        full, rest = divmod(size, lanes)
        has_rest = builder.icmp_signed(">", part[1], builder.index(full))
        last = builder.select(has_rest, builder.index(full), part[1])
        builder.loop(part[0], last, 1, lambda u: self._block(indices, builder.mul(u, builder.index(lanes)), lanes))
        if rest:
            with builder.when(builder.and_(has_rest, builder.icmp_signed("<", part[0], part[1]))):
                self._block(indices, builder.index(full * lanes), rest)

    def _block(self, indices: dict[int, Index], start: Any, count: int) -> None:
        builder = self.builder
        if self.lane_axis is not None:
            indices = {**indices, self.lane_axis: (start, 0)}
        mask = builder.first_lanes(count) if count < self.lanes else None
        frame = Frame(builder, self.pointers, self.flag, indices, self.lane_axis, mask)
        values = frame.run(self.recipe, {0: self._sums(frame, count)})
        for store in self.recipe.stores:
            frame.store(store, values[store.step])

    def _sums(self, frame: Frame, count: int) -> Any:
        """`count` sums over k, one in each lane."""
        builder, lanes = self.builder, self.lanes
        one = self._address(frame, self.one)
        many = self._address(frame, self.many)
        step = 0 if self.lane_axis is None else self.many.strides[self.lane_axis]

        def add(k: Any, sums: Sequence[Any], mask: Any) -> list[Any]:
            x = builder.load_vector(builder.at(one, k), mask=mask)
            lines = [builder.load_vector(builder.at(builder.at(many, k), r * step), mask=mask) for r in range(count)]
            return [builder.multiply_add(x, line, total) for line, total in zip(lines, sums, strict=True)]

        full, rest = divmod(self.product.size, lanes)
        body = lambda u, *sums: add(builder.mul(u, builder.index(lanes)), sums, None)
        sums = builder.loop(0, full, 1, body, [builder.constant(0.0)] * count)
        if rest:
            sums = add(builder.index(full * lanes), sums, builder.first_lanes(rest))
        columns = builder.transpose([*sums, *[sums[0]] * (lanes - count)])
        while len(columns) > 1:
            columns = [builder.fadd(x, y) for x, y in zip(columns[::2], columns[1::2], strict=True)]
        return columns[0]

    def _address(self, frame: Frame, operand: Load) -> Any:
        return frame.address(operand.pointer, operand.offset, operand.strides[:-1], operand.dtype)


def emit_product(builder: Builder, recipe: Recipe, pointers: Any, flag: Any, thread: Any, threads: Any) -> None:
    assert recipe.product is not None
    writer = Dots if recipe.product.vector == "k" else Tile
    writer(builder, recipe, pointers, flag, thread, threads).emit()
