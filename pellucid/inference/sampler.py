"""What a trained network makes of itself: text after a prompt, images of a class (floor 6).

The same preprocessor that read the training data turns tokens into text and numbers into pixels. Where it goes, to the
screen, a file or a report, is for others.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data.image.decode import as_seen
from ..data.kinds import preprocessor_from_json
from ..errors import OptionError, suggestion
from ..evaluation.compiled import CompiledFunction
from ..models.base import ImageGenerator, LanguageModel
from ..random import Generator
from ..runs.run import Run


class Sampler:
    """A run's network and preprocessor, loaded once. Raises OptionError for a network that answers instead."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.preprocessor: Any = preprocessor_from_json(run.config["preprocessor"])
        self.network = run.network()
        if not isinstance(self.network, LanguageModel | ImageGenerator):
            raise OptionError(f"{run.name}: a network that answers ({run.config['family']}); expected one that writes or draws, such as "
                              "transformer, lstm on text, gan or diffusion; use pellucid predict")  # fmt: skip

    @property
    def writes(self) -> bool:
        return isinstance(self.network, LanguageModel)

    @property
    def conditional(self) -> bool:
        """Whether it draws images of the class it is told."""
        return isinstance(self.network, ImageGenerator) and self.network.conditional

    def text(
        self, prompt: str = "", length: int = 500, *, temperature: float = 1.0, top_k: int = 0, generator: Generator | None = None
    ) -> str:  # fmt: skip
        """What the network writes after `prompt`, `length` tokens, or to the end of the line where lines were learned."""
        assert isinstance(self.network, LanguageModel)
        known = self.preprocessor
        tokens = known.encode(prompt)["tokens"]
        stop = int(known.tokenizer.encode("\n")[0]) if known.lines else None
        drawn = self.network.write(tokens, length, temperature=temperature, top_k=top_k, stop=stop, generator=generator)
        return str(known.text(drawn)).removesuffix("\n" if known.lines else "")

    def images(self, labels: np.ndarray, generator: Generator | None = None) -> np.ndarray:
        """An image of each class number of `labels` (N,): uint8 (N, H, W), or (N, H, W, 3) in colour."""
        assert isinstance(self.network, ImageGenerator)
        paint = CompiledFunction(self.network.paint, self.run.config["settings"]["eager"])
        return as_pixels(self.network.draw(labels, generator, paint))

    def class_number(self, name: str) -> int:
        """Raises OptionError for a class that is not known, and where the network cannot be told one."""
        classes = self.preprocessor.classes or []
        if not self.conditional:
            raise OptionError(f"--class {name}: {self.run.name} was never told the classes (conditional = false) and draws any of them; "
                              "expected a network that was; leave it out, or train one without conditional = false")  # fmt: skip
        if name not in classes:
            raise OptionError(f"--class {name}: not among the classes of {self.run.name}; expected one of {', '.join(classes[:20])}."
                              f"{suggestion(name, classes)}")  # fmt: skip
        return int(classes.index(name))


def as_pixels(drawn: np.ndarray) -> np.ndarray:
    """Images in a preprocessor's encoding, (N, C, H, W) from 0 to 255, as uint8 (N, H, W) or (N, H, W, 3)."""
    return as_seen(np.rint(np.asarray(drawn, np.float32)).clip(0, 255).astype(np.uint8))


def grid(images: np.ndarray, columns: int) -> np.ndarray:
    """Images uint8 (N, H, W) or (N, H, W, 3) as one picture, row by row, a line of grey between them."""
    n, height, width = images.shape[:3]
    rows = -(-n // columns)
    whole = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, *images.shape[3:]), 96, np.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        whole[top : top + height, left : left + width] = image
    return whole
