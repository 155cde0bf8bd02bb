"""Optimizers and learning-rate schedules, made from Settings (floor 10)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from .. import nn, optim
from ..errors import OptionError, suggestion
from ..models.base import Phase
from ..nn import Module, Parameter
from ..runs.settings import Settings


@dataclass
class OptimizerPhase:
    """A phase of a training step with the parameters that it updates and their optimizers."""

    phase: Phase
    parameters: list[Parameter]
    optimizers: list[optim.Optimizer]


def make_phase(phase: Phase, settings: Settings) -> OptimizerPhase:
    parameters = [p for p in phase.module.parameters() if p.requires_grad]
    return OptimizerPhase(phase, parameters, make_optimizers(phase.module, settings))


def learning_rate_curve(schedule: str, warmup: float, steps: int) -> Callable[[int], float]:
    """The learning rate of each step as a share of the highest.

    "cosine": in a line from 0 to 1 in the first `warmup` of all steps, then down half a cosine (Loshchilov and Hutter
    2017). "onecycle": up and down by half cosines, from 1/25 and to 1/10,000 (Smith and Topin 2018). "constant": a line, then 1.
    """
    rise = max(1, round(warmup * steps))

    def curve(step: int) -> float:
        t = min(1.0, (step - rise) / max(1, steps - rise))
        if schedule == "onecycle":
            if step < rise:
                return 1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * step / rise)) / 2
            return 1e-4 + (1 - 1e-4) * (1 + math.cos(math.pi * t)) / 2
        if step < rise:
            return (step + 1) / (rise + 1)
        return 1.0 if schedule == "constant" else (1 + math.cos(math.pi * t)) / 2

    return curve


def make_optimizers(network: Module, settings: Settings) -> list[optim.Optimizer]:
    """The optimizer the settings name. Matrices are decayed; biases, the scales of norms and other vectors are not.

    Muon moves the matrices of hidden layers only, so an AdamW stands beside it for the rest.
    """
    lr, decay = settings.lr, settings.weight_decay
    betas = (settings.momentum, settings.beta2)
    matrices = hidden_matrices(network) if settings.optimizer == "muon" else []
    rest = [p for p in network.parameters() if p.requires_grad and not any(p is m for m in matrices)]
    decayed = {id(p) for p in decayed_parameters(network)}
    weights = [p for p in rest if id(p) in decayed]
    others = [p for p in rest if id(p) not in decayed]
    groups = [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    makers: dict[str, Callable[[], optim.Optimizer]] = {
        "adamw": lambda: optim.AdamW(groups, lr=lr, betas=betas),
        "adam": lambda: optim.Adam(groups, lr=lr, betas=betas),
        "sgd": lambda: optim.SGD(groups, lr=lr, momentum=settings.momentum, nesterov=settings.momentum > 0),
        "rmsprop": lambda: optim.RMSprop(groups, lr=lr),
        "adagrad": lambda: optim.Adagrad(groups, lr=lr),
    }
    if settings.optimizer != "muon":
        return [makers[settings.optimizer]()]
    optimizers: list[optim.Optimizer] = []
    if matrices:
        optimizers.append(optim.Muon(matrices, lr=lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
    if groups:
        optimizers.append(makers["adamw"]())
    return optimizers


def decayed_parameters(network: Module) -> list[Parameter]:
    """What weight decay pulls towards 0: Parameters of two axes or more, but for those that a layer names as `undecayed`.

    Raises OptionError where such a name is none of the layer's Parameters.
    """
    return [p for m in network.modules() for p in _matrices(m)]


def _matrices(layer: Module) -> list[Parameter]:
    """The layer's own Parameters that multiply its input: `weight`, `weight_ih_l0`, `weight_orig`, `in_proj_weight`."""
    for name in layer.undecayed:
        if name not in layer._parameters:  # a misspelt one would be decayed
            own = ", ".join(layer._parameters) or "none"
            raise OptionError(
                f"{type(layer).__name__}.undecayed: {name!r} is no Parameter of this layer; expected some of {own}."
                f"{suggestion(name, layer._parameters)} Mend the name in the class"
            )
    return [p for name, p in layer.named_parameters(recurse=False) if p.ndim > 1 and name not in layer.undecayed]


MATRICES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.RNN, nn.GRU, nn.LSTM, nn.MultiheadAttention)


def hidden_matrices(network: Module) -> list[Parameter]:
    """The weights between one layer and the next, first to last; without embeddings and the last layer."""
    layers = [m for m in network.modules() if isinstance(m, MATRICES)]
    if layers and isinstance(layers[-1], nn.Linear):  # the head; a tied head is an embedding
        layers.pop()
    return [p for m in layers for p in _matrices(m) if p.requires_grad]
