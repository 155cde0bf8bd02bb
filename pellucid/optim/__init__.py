"""Optimizers, learning-rate schedules and weight averaging, under PyTorch's names (floor 4)."""

from . import lr_scheduler
from .adagrad import Adagrad
from .adam import Adam, AdamW
from .averaging import ExponentialMovingAverage
from .muon import Muon
from .optimizer import Optimizer
from .rmsprop import RMSprop
from .sgd import SGD

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "ExponentialMovingAverage",
    "Muon",
    "Optimizer",
    "RMSprop",
    "lr_scheduler",
]
