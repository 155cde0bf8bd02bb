"""Activation capture, `compile(step, capture=...)`: a step that also gives outputs and gradients of layers (floor 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import OptionError, suggestion
from ..tensor import Tensor
from .many_steps import Progress
from .options import StepOptions
from .signature import captured_variables, has
from .step import CompiledStep
from .trace.traced_step import Function

if TYPE_CHECKING:
    from ..tensor.operands import TensorLike

# Of one layer: its "output", and its "grad", dL/d(output), which is None where none arrives.
Captured = dict[str, Tensor | None]


class CapturingStep(CompiledStep):
    """A compiled step that also gives the outputs of some of its layers and their gradients.

    captured: after a call, {path: {"output": Tensor, "grad": Tensor or None}}. The step's own results are unchanged.
    """

    def __init__(
        self,
        plain: Function,
        options: StepOptions,
        paths: tuple[str, ...],
        source: Function | None = None,
    ) -> None:
        self.captured: dict[str, Captured] = {}
        self.plain = plain
        layers = _layers(source or plain, paths)

        def capturing(*args: object, **kwargs: object) -> Any:
            captured: dict[str, Captured] = {path: {"output": None, "grad": None} for path in layers}
            hooks = [layer.register_forward_hook(_capturing_hook(captured[path])) for path, layer in layers.items()]
            try:
                result = plain(*args, **kwargs)
            finally:
                for hook in hooks:
                    hook.remove()
            return result, captured

        super().__init__(capturing, options, source or plain)
        self.captured_paths = paths

    @property
    def watched(self) -> NoReturn:
        """Raise AttributeError: the old name of `captured`."""
        raise AttributeError("a compiled step's `watched` has another name now; expected captured; write step.captured")

    def _with_function(self, function: Function) -> CompiledStep:
        return CapturingStep(function, self.options, self.captured_paths)

    def __reduce__(self) -> tuple[object, ...]:
        return CapturingStep, (self.plain, self.options, self.captured_paths)

    def __call__(self, *args: object, **kwargs: object) -> Any:
        result, self.captured = super().__call__(*args, **kwargs)
        return result

    def run_steps(
        self,
        data: Tensor | Sequence[Tensor] | None,
        indices: TensorLike,
        progress: Progress | None = None,
        per_step: Mapping[Tensor, TensorLike] | None = None,
    ) -> Any:
        result, self.captured = super().run_steps(data, indices, progress, per_step)
        return result


def _capturing_hook(captured: Captured) -> Callable[..., None]:
    """A forward hook that keeps a layer's output and, once it is known, the gradient of it."""

    def gradient(g: Tensor) -> None:
        captured["grad"] = g.detach().clone()

    def hook(module: object, inputs: object, output: Tensor) -> None:
        captured["output"] = output.detach().clone()  # of this moment: the step may write on in it
        if output.requires_grad:
            output.register_hook(gradient)

    return hook


def _layers(function: Function, paths: tuple[str, ...]) -> dict[str, Any]:
    """The layers that `paths` name in the networks the function reads."""
    networks = [owner for _, owner in captured_variables(function) if has(owner, "named_modules")]
    layers = {path: layer for network in networks for path, layer in network.named_modules() if path}
    for path in paths:
        if path not in layers:
            raise OptionError(
                f"compile: capture names {path!r}; expected the path of a layer that the step uses, one of "
                f"{', '.join(layers) or 'none'}.{suggestion(path, layers)}"
            )
    return {path: layers[path] for path in paths}
