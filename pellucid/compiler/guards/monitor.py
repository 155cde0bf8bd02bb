"""State monitor: follows the user's frames while a step is traced (floor 4).

A trace function sees each instruction of the user's frames. It is on only while one of them is on top: a profile function,
which sees every call and return, turns it on and off. A debugger or a coverage tool sees nothing in between; what they
have set is put back.
"""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Callable
from types import CodeType, FrameType, TracebackType
from typing import Any

from ...core.origin import Origin, module_path, user_origin
from ...core.value import Value
from ...errors import PellucidError, TraceError
from .access_log import AccessLog, Change
from .closures import Cells
from .followed import followed_frames, is_engine, is_installed
from .foreign import ForeignObjects
from .guard import Guard
from .reader import Reader
from .shadow_stack import ShadowStack

BROKEN = (
    "{place}: a compiled step does something here that cannot be followed ({error}); expected code whose reads of Python's "
    "state can be; please report it, and compute this outside of the step"
)

TraceFunction = Callable[[FrameType, str, Any], Any]  # what sys.settrace() takes


def _restore_profiler(before: Any) -> None:
    """Go on with the profiler that `sys.getprofile` gave: a function, or the object of `cProfile`."""
    sys.setprofile(before if callable(before) else None)
    if hasattr(before, "enable"):
        before.enable()


class StateMonitor:
    """A context around the run of a step that is traced.

    roots: the functions that lead to what is foreign. is_made_inside: whether a Tensor is the step's own.
    met: afterwards, the ids of the Tensors that the step has come to by itself.
    """

    def __init__(self, roots: tuple[Any, ...], is_made_inside: Callable[[Value], bool]) -> None:
        self.log = AccessLog(ForeignObjects(is_made_inside), self.where)
        self.reader = Reader(self.log)
        self.around: dict[CodeType, Cells] = {}  # of functions inside others, the cells of the one around them
        self.frame: FrameType | None = None
        self.found_ids: set[int] = set()
        self.start = next(filter(None, map(_first_line, reversed(roots))), Origin("", None, 0))
        for root in roots:
            self.log.objects.note(root)

    def __enter__(self) -> StateMonitor:
        self.before = sys.gettrace(), sys.getprofile()
        here = sys._getframe()
        here.f_trace_opcodes, asked = (
            True,
            here.f_trace_opcodes,
        )  # Python 3.12 looks at this in settrace(), for all frames
        here.f_trace_opcodes = asked
        self.collects = gc.isenabled()
        gc.disable()  # what the collector calls and ends, such as a generator of the user's, is no part of the step
        sys.setprofile(self._profiler())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _restore_profiler(self.before[1])
        sys.settrace(self.before[0])
        if self.collects:
            gc.enable()
        self.frame = None
        self.around.clear()
        try:
            if self.log.refused is not None and (kind is None or issubclass(kind, Exception)):
                raise self.log.refused
            if kind is None:
                self.log.objects.refuse_draws(self.start)
        finally:
            self.found_ids = {id(x) for x in self.log.objects.foreign.values() if isinstance(x, Value)}
            self.log.objects.forget()

    # ---- afterwards ----

    @property
    def guards(self) -> list[Guard]:
        """The conditions under which the traced step may be used."""
        return [*self.log.guards.values(), *self.log.absences(), *self.log.after_writes()]

    def changes(self) -> list[Change]:
        """What the step has written of Python state and not restored."""
        return self.log.changes()

    def undo(self) -> None:
        """Restore what the step has written."""
        self.log.undo()

    # ---- while tracing ----

    def where(self) -> Origin:
        """The user's line: of the followed frame, or of the one that called our code or that of an installed package."""
        frame = inner = self.frame
        while frame is not None and (is_engine(frame.f_code.co_filename) or is_installed(frame.f_code.co_filename)):
            frame = frame.f_back
        frame = frame or inner
        return user_origin() if frame is None else Origin(module_path.get(), frame.f_code, frame.f_lasti)

    def _profiler(self) -> Callable[[FrameType, str, Any], None]:
        """The profile function. `depth` counts the frames that are not followed above the last followed one. Every call and
        return in a traced step comes here, those of C functions too, so it does little."""
        depth, outer = 0, []
        known, is_followed, begin, enter, settrace = (
            followed_frames.get,
            followed_frames.of,
            self._begin,
            self._enter,
            sys.settrace,
        )

        def profile(frame: FrameType, event: str, value: object) -> None:
            nonlocal depth
            if event == "call":
                followed = known(id(frame.f_code))
                if is_followed(frame) if followed is None else followed:
                    outer.append(depth)
                    depth = 0
                    settrace(enter)
                    begin(frame)
                else:
                    if not depth:
                        settrace(None)
                    depth += 1
            elif event == "return":
                if depth:
                    depth -= 1
                    if not depth and outer:
                        self._returned(frame, value)
                        settrace(enter)
                elif outer:
                    self._check_seen(frame)
                    depth = outer.pop()
                    if depth or not outer:
                        settrace(None)

        return profile

    def _enter(self, frame: FrameType, event: str, value: object) -> TraceFunction | None:
        if not followed_frames.of(frame):
            return None
        self._begin(frame)
        return frame.f_trace

    def _begin(self, frame: FrameType) -> None:
        if isinstance(getattr(frame.f_trace, "__self__", None), FrameMonitor):
            return  # a generator that goes on
        self.frame = frame
        try:
            follower = FrameMonitor(self, ShadowStack(self.reader, frame, self.around))
        except Exception as error:
            self._broken(frame, error)
            return
        frame.f_trace, frame.f_trace_lines, frame.f_trace_opcodes = follower.trace, False, True

    def _returned(self, frame: FrameType, value: object) -> None:
        caller = getattr(frame.f_back.f_trace, "__self__", None) if frame.f_back is not None else None
        if isinstance(caller, FrameMonitor):
            caller.shadow.returned(frame.f_code, value)

    def _check_seen(self, frame: FrameType) -> None:
        """Refuse the step where Python has not reported the instructions of a frame, so that its reads are not known."""
        follower = getattr(frame.f_trace, "__self__", None)
        if (
            isinstance(follower, FrameMonitor)
            and follower.shadow.raised
            and frame.f_code.co_flags & inspect.CO_GENERATOR
        ):
            return  # one that is closed runs no instruction
        if not isinstance(follower, FrameMonitor) or follower.shadow.event < 0:
            self._broken(frame, RuntimeError(f"Python {sys.version.split()[0]} does not tell of its instructions"))

    def _broken(self, frame: FrameType, error: Exception) -> None:
        place = Origin(module_path.get(), frame.f_code, frame.f_lasti)
        message = BROKEN.format(place=place, error=f"{type(error).__name__}: {error}")
        self.log.refused = self.log.refused or TraceError(message)


def _first_line(function: Any) -> Origin | None:
    code = getattr(inspect.unwrap(getattr(function, "__func__", function)), "__code__", None)
    if not isinstance(code, CodeType):
        return None
    first = next((i for i, (line, *_) in enumerate(code.co_positions()) if line), 0)
    return Origin("", code, 2 * first)


class FrameMonitor:
    """The trace function of one frame."""

    __slots__ = ("shadow", "watch")

    def __init__(self, watch: StateMonitor, shadow: ShadowStack) -> None:
        self.watch, self.shadow = watch, shadow

    def trace(self, frame: FrameType, event: str, value: object) -> TraceFunction:
        shadow, watch = self.shadow, self.watch
        if event == "opcode":
            watch.frame = frame
            try:
                shadow.step(frame)
            except PellucidError:
                raise
            except Exception as error:
                watch._broken(frame, error)
        elif event == "exception":
            shadow.raised = True
        elif event == "return":
            watch._returned(frame, value)
            watch.frame = frame.f_back
            shadow.clear()
        return self.trace
