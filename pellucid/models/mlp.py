"""The multi-layer perceptron (MLP), for images and tables (floor 5).

    images   (B, H, W) -> flattened (B, H*W) ---------------------------------\\
    pictures (B, C, H, W) uint8 -> standardized, flattened (B, C*H*W) ---------\\
    tables   numbers (B, F) -> each column embedded (B, F*D) -------------------> hidden layers -> (B, K)
             categories (B, C) -> each column embedded (B, C*D) ---------------/
             text (B, S, L), weights (B, S, L) -> summed (B, S*E) ------------/

Shapes: B batch, F numeric columns, C categorical columns (of a picture: channels), D embedding size, T bins, S columns of
text, L buckets of each, E their embedding size, K outputs (classes, or 1 for regression). The preprocessors in `data/` turn
a table into numbers, categories and buckets.
"""

from __future__ import annotations

from dataclasses import dataclass

from .. import nn
from ..data.input_spec import ImageSpec, InputSpec, TableSpec
from ..errors import OptionError, suggestion
from ..nn.activation import ACTIVATIONS
from ..tensor import Tensor
from .bagged_mlp import BaggedMLP, LinearStart
from .base import added, check_field_types, wrong_spec
from .blocks.augmentation import Augmentation, ImageInput
from .blocks.stacked import StackedLinear
from .blocks.table_input import NUMERIC_EMBEDDINGS, embedded, input_names, table_embeddings
from .heads.prediction import NUMERIC, PredictionModel

MOST_EMBEDDED, LEAST_DIM = 256, 2  # of a bagged network: numbers that columns are embedded as, in all and each


@dataclass(frozen=True)
class Config:
    """Hyperparameters of an MLP; plain values, so that they can be saved as JSON.

    hidden_sizes: sizes of the hidden layers.        activation: a key of ACTIVATIONS.        dropout: after each hidden layer.
    numeric_embedding: of a table's numeric columns, "piecewise", "periodic", or "plain" for none.    embedding_dim: D.
    shift: the most pixels by which a training image is shifted each way, at random for each image and step.
    label_smoothing: share of a class label spread over all classes (Szegedy et al. 2015).
    bag_folds: of a table: how many networks learn at once, each without a fold of the rows, see `bagged_mlp.py`; 0 for one
    network that learns the training rows.      members: networks of each fold.      linear_start: whether each begins with a linear model of its rows.
    bounded_rates: of a bagged network of counts: whether rates stay within ten times what training had.
    """

    hidden_sizes: tuple[int, ...] = (128, 64)
    activation: str = "relu"
    dropout: float = 0.0
    numeric_embedding: str = "piecewise"
    embedding_dim: int = 8
    shift: int = 0
    label_smoothing: float = 0.0
    bag_folds: int = added(0)
    members: int = added(1)
    linear_start: bool = added(False)
    bounded_rates: bool = added(False)

    def __post_init__(self) -> None:
        check_field_types(self)
        object.__setattr__(self, "hidden_sizes", tuple(self.hidden_sizes))
        if not all(isinstance(size, int) and size >= 1 for size in self.hidden_sizes):
            shown = ",".join(map(str, self.hidden_sizes))
            raise OptionError(
                f"hidden_sizes: {shown}; expected whole numbers from 1, the size of each hidden layer; write 128,64"
            )
        for name, choices in (("activation", ACTIVATIONS), ("numeric_embedding", NUMERIC_EMBEDDINGS)):
            value = getattr(self, name)
            if value not in choices:
                raise OptionError(
                    f"{name}: {value!r}; expected one of {', '.join(choices)}.{suggestion(value, choices)}"
                )
        for name in ("dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise OptionError(f"{name}: {getattr(self, name)}; expected 0 up to, but not including, 1; write 0.1")
        for name, least in (("embedding_dim", 1), ("shift", 0), ("bag_folds", 0), ("members", 1)):
            if getattr(self, name) < least:
                raise OptionError(f"{name}: {getattr(self, name)}; expected a whole number from {least}; write {least}")
        if self.linear_start and not self.bag_folds:
            raise OptionError(
                "linear_start: true with bag_folds=0; expected folds, whose linear models it is; write bag_folds=5"
            )


class FlattenedImage(nn.Module):
    """Images as rows (B, C*H*W), standardized and, in training, shifted by up to `shift` pixels: see `ImageInput`."""

    def __init__(self, inputs: ImageSpec, shift: int) -> None:
        super().__init__()
        self.image = ImageInput(inputs, Augmentation(shift=shift))
        self.size = self.image.channels * self.image.height * self.image.width

    def forward(self, image: Tensor) -> Tensor:
        return self.image(image).flatten(1)


class MLP(PredictionModel):
    """The network. `forward` takes the arrays that the preprocessor encodes, in its order, and gives (B, K).

    These are logits of K classes or labels. For one number the output is (B,): in standard deviations of the target, or of
    counts the logarithm of a rate.
    """

    def __init__(self, inputs: ImageSpec | TableSpec, outputs: int, task: str, config: Config) -> None:
        super().__init__()
        self.task, self.label_smoothing = task, config.label_smoothing
        self.embeddings = nn.ModuleDict(input_embeddings(inputs, config))
        self.input_names = input_names(self.embeddings)
        layers: list[nn.Module] = []
        size = sum(embedding.size for embedding in self.embeddings.values())
        for hidden in config.hidden_sizes:
            layers += [nn.Linear(size, hidden), ACTIVATIONS[config.activation]()]
            layers += [nn.Dropout(config.dropout)] if config.dropout else []
            size = hidden
        self.layers = nn.Sequential(*layers, nn.Linear(size, outputs))

    def forward(self, *inputs: Tensor) -> Tensor:
        arrays = dict(zip(self.input_names, inputs, strict=True))
        y = self.layers(embedded(self.embeddings, arrays))  # (B, K)
        return y.squeeze(1) if self.task in NUMERIC else y


def input_embeddings(inputs: ImageSpec | TableSpec, config: Config) -> dict[str, nn.Module]:
    """One module for each array that the network reads, by the array's name in the preprocessor's encoding; see ARRAYS."""
    if isinstance(inputs, ImageSpec):
        return {"image": FlattenedImage(inputs, config.shift)}
    return table_embeddings(inputs, config.numeric_embedding, config.embedding_dim)


def build(inputs: InputSpec, outputs: int, task: str, config: Config) -> MLP | BaggedMLP:
    """The network for `inputs`, a preprocessor's `input_spec()`; its weights come from the global random stream."""
    if not isinstance(inputs, ImageSpec | TableSpec):
        raise wrong_spec("mlp", inputs, ImageSpec, TableSpec)
    return bagged(inputs, outputs, task, config) if config.bag_folds else MLP(inputs, outputs, task, config)


def bagged(inputs: ImageSpec | TableSpec, outputs: int, task: str, config: Config) -> BaggedMLP:
    """The M networks of the folds in one; see `bagged_mlp.py`. Raises OptionError for images."""
    folds, networks = config.bag_folds, config.bag_folds * config.members
    if not isinstance(inputs, TableSpec):
        raise OptionError(f"bag_folds: {folds} for images; expected 0, as folds are of a table's rows; leave it out")
    dim = min(config.embedding_dim, max(LEAST_DIM, MOST_EMBEDDED // max(inputs.numbers, 1)))
    embeddings = table_embeddings(inputs, config.numeric_embedding, dim, (networks,))
    layers: list[nn.Module] = []
    size = sum(embedding.size for embedding in embeddings.values())
    for hidden in config.hidden_sizes:
        layers += [StackedLinear(networks, size, hidden), ACTIVATIONS[config.activation]()]
        layers += [nn.Dropout(config.dropout)] if config.dropout else []
        size = hidden
    begins = config.linear_start and bool(inputs.numbers or inputs.categories)  # text alone has no linear model
    layers.append(StackedLinear(networks, size, outputs, zero=begins))
    line = LinearStart(inputs, outputs, networks) if begins else None
    network = BaggedMLP(
        task, folds, config.members, nn.ModuleDict(embeddings), nn.Sequential(*layers), line, config.bounded_rates
    )
    network.label_smoothing = config.label_smoothing
    return network
