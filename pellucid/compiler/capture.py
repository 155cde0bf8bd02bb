"""`compile(step, watch=...)`: a compiled step that also gives what passes through some of its layers (floor 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import OptionError, suggestion
from ..tensor import Tensor
from .signature import captured_variables, has
from .step import CompiledStep


class CapturingStep(CompiledStep):
    """A compiled step that also gives what passes through some of its layers.

    watched: after a call, {path: {"output": Tensor, "grad": Tensor or None}}. The step's own results are unchanged.
    """

    def __init__(
        self,
        plain: Callable[..., Any],
        keep_grads: bool,
        leave_out: frozenset[str],
        paths: tuple[str, ...],
        source: Any = None,
    ) -> None:
        self.watched: dict[str, dict[str, Any]] = {}
        self.plain = plain
        layers = _layers(source or plain, paths)

        def watching(*args: Any, **kwargs: Any) -> Any:
            seen: dict[str, dict[str, Any]] = {path: {"output": None, "grad": None} for path in layers}
            hooks = [layer.register_forward_hook(_capturing_hook(seen[path])) for path, layer in layers.items()]
            try:
                result = plain(*args, **kwargs)
            finally:
                for hook in hooks:
                    hook.remove()
            return result, seen

        super().__init__(watching, keep_grads, leave_out, source or plain)
        self.watch = paths

    def _again(self, function: Callable[..., Any]) -> CompiledStep:
        return CapturingStep(function, self.keep_grads, self.leave_out, self.watch)

    def __reduce__(self) -> Any:
        return CapturingStep, (self.plain, self.keep_grads, self.leave_out, self.watch)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        result, self.watched = super().__call__(*args, **kwargs)
        return result

    def run_steps(self, data: Any, indices: Any, progress: Callable[[int], Any] | None = None) -> Any:
        result, self.watched = super().run_steps(data, indices, progress)
        return result


def _capturing_hook(seen: dict[str, Any]) -> Callable[..., None]:
    """A forward hook that keeps a layer's output and, once it is known, the gradient of it."""

    def gradient(g: Tensor) -> None:
        seen["grad"] = g.detach().clone()

    def hook(module: Any, inputs: Any, output: Tensor) -> None:
        seen["output"] = output.detach().clone()  # of this moment: the step may write on in it
        if output.requires_grad:
            output.register_hook(gradient)

    return hook


def _layers(function: Any, paths: tuple[str, ...]) -> dict[str, Any]:
    """The layers that `paths` name in the networks the function reads."""
    networks = [owner for _, owner in captured_variables(function) if has(owner, "named_modules")]
    known = {path: layer for network in networks for path, layer in network.named_modules() if path}
    for path in paths:
        if path not in known:
            raise OptionError(
                f"compile: watch names {path!r}; expected the path of a layer that the step uses, one of "
                f"{', '.join(known) or 'none'}.{suggestion(path, known)}"
            )
    return {path: known[path] for path in paths}
