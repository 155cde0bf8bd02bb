"""`pellucid sample`: text or images that a trained network makes of itself (floor 7)."""

from __future__ import annotations

import io
import math
from pathlib import Path

import click
import numpy as np
from PIL import Image

from ..errors import OptionError
from ..files import write_bytes
from ..inference.sampler import Sampler, grid
from ..random import Generator
from ..runs import run as runs
from .options import Number, Whole, print_json
from .progress import say

LARGER = 3  # times each pixel is enlarged, where pictures are small
SMALL = 64  # pixels a side


@click.command("sample")
@click.argument("run")
@click.option("--n", "count", type=Whole(), help="How many: texts (1), lines (20) or images (64).")
@click.option("--class", "wanted", metavar="NAME", help="Images of this class alone.")
@click.option("--prompt", default="", metavar="TEXT", help="What the text begins with.")
@click.option("--length", type=Whole(), default=500, show_default=True, help="Tokens to write.")
@click.option("--temperature", type=Number(), default=1.0, show_default=True, help="Below 1 likelier, above 1 bolder.")
@click.option("--top-k", type=Whole(0), default=0, help="Choose among the k likeliest only.")
@click.option("--seed", type=Whole(0), default=0, show_default=True, help="The same seed, the same sample.")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="The picture: .png (else RUN-sample.png).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(
    context: click.Context, run: str, count: int | None, wanted: str | None, prompt: str, length: int, temperature: float, top_k: int, seed: int,
    out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Let RUN write text, or draw a grid of images.

    \b
    pellucid sample last --prompt "ROMEO:"
    pellucid sample last --n 64 --class 7 --out sevens.png
    """
    if not 0 <= temperature < math.inf:
        raise OptionError(
            f"--temperature {temperature:g}: expected 0 or more; 0 takes the likeliest, 1 draws; write 0.8"
        )
    found = runs.find(run)
    sampler = Sampler(found)
    generator = Generator(seed)
    if sampler.writes:
        if wanted is not None or out is not None:
            raise OptionError(f"--{'class' if wanted is not None else 'out'}: {found.name} writes text; expected --prompt, --length, "
                              "--temperature or --top-k; leave it out")  # fmt: skip
        options = {"temperature": temperature, "top_k": top_k, "generator": generator}
        for note in sampler.preprocessor.unseen_values(prompt):
            say(f"note: --prompt: {note}")
        many = count or (20 if sampler.preprocessor.lines else 1)
        texts = [prompt + sampler.text(prompt, length, **options) for _ in range(many)]  # type: ignore[arg-type]
        if as_json:
            print_json({"run": str(found.folder), "texts": texts})
        else:
            click.echo("\n".join(texts) if sampler.preprocessor.lines else "\n\n".join(texts))
        return
    for name in ("prompt", "length", "temperature", "top_k"):
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise OptionError(
                f"--{name.replace('_', '-')}: {found.name} draws images; expected --n, --class, --seed or --out; leave it out"
            )
    _draw(sampler, count or 64, wanted, generator, out, as_json)


def _draw(
    sampler: Sampler, count: int, wanted: str | None, generator: Generator, out: Path | None, as_json: bool
) -> None:  # fmt: skip
    path = out or Path(f"{sampler.run.folder.name}-sample.png")
    if path.suffix.lower() != ".png":
        raise OptionError(f"--out {path}: expected a name that ends in .png; write sample.png")
    if path.exists():
        raise OptionError(
            f"--out {path}: there is a file of that name already; expected a new one; choose another name"
        )
    classes = len(sampler.preprocessor.classes or [0])
    labels = np.arange(count) % classes if wanted is None else np.full(count, sampler.class_number(wanted))
    images = sampler.images(labels, generator)
    by_class = wanted is None and classes > 1 and sampler.conditional
    columns = min(count, classes) if by_class else round(count**0.5) or 1
    whole = grid(images, columns)
    if max(images.shape[1:3]) <= SMALL:
        whole = whole.repeat(LARGER, 0).repeat(LARGER, 1)
    buffer = io.BytesIO()
    Image.fromarray(whole).save(buffer, "PNG", optimize=True)
    write_bytes(path, buffer.getvalue())
    names = [(sampler.preprocessor.classes or ["image"])[i] for i in labels] if sampler.conditional else []
    if as_json:
        print_json({"run": str(sampler.run.folder), "picture": str(path), "n": count, "classes": names})
    else:
        click.echo(
            f"{path}: {count} images, {columns} a row" + (f", of {', '.join(names[:columns])}" if by_class else "")
        )
