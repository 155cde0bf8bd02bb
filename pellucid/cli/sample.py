"""`pellucid sample`: generate text or images with a trained network (floor 11)."""

from __future__ import annotations

import io
import math
from pathlib import Path

import click
import numpy as np
from PIL import Image

from ..errors import OptionError
from ..evaluation.images import image_grid
from ..files import write_bytes
from ..inference.sampler import Sampler
from ..random import Generator
from ..runs import run as runs
from .options import JSON, OUT, HeadedCommand, Number, Whole, option, print_json, seed_option
from .progress import say

ENLARGE = 3  # enlarge small images by this factor
SMALL_SIDE = 64  # pixels


@click.command("sample", cls=HeadedCommand)
@click.argument("run")
@option("--n", "count", type=Whole(), help="How many samples.  [default: 1 text, 20 lines or 64 images]")
@option("--class", "class_name", metavar="NAME", help="Generate images of this class only.")
@option("--prompt", default="", metavar="TEXT", help="The beginning of the text.")
@option("--length", type=Whole(), default=500, show_default=True, help="Tokens to generate.")
@option(
    "--temperature",
    type=Number(),
    default=1.0,
    show_default=True,
    help="Below 1 prefers likely tokens, above 1 unlikely ones.",
)
@option("--top-k", type=Whole(0), default=0, help="Sample from the k likeliest tokens only; 0 for all.")
@seed_option()
@OUT
@JSON
@click.pass_context
def command(
    context: click.Context, run: str, count: int | None, class_name: str | None, prompt: str, length: int, temperature: float, top_k: int, seed: int,
    out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Generate text, or a grid of images, with RUN; images are written to --out, or to RUN-sample.png.

    \b
    pellucid sample last --prompt "ROMEO:"
    pellucid sample last --n 64 --class 7 --out sevens.png
    """
    if not 0 <= temperature < math.inf:
        raise OptionError(
            f"--temperature {temperature:g}: expected 0 or more; 0 takes the likeliest token, 1 samples; write 0.8"
        )
    trained = runs.find_run(run)
    sampler = Sampler(trained)
    generator = Generator(seed)
    if sampler.writes:
        if class_name is not None or out is not None:
            raise OptionError(f"--{'class' if class_name is not None else 'out'}: {trained.name} generates text; expected --prompt, --length, "
                              "--temperature or --top-k; leave it out")  # fmt: skip
        options = {"temperature": temperature, "top_k": top_k, "generator": generator}
        for note in sampler.preprocessor.unseen_values(prompt):
            say(f"note: --prompt: {note}")
        texts_wanted = count or (20 if sampler.preprocessor.lines else 1)
        texts = [prompt + sampler.text(prompt, length, **options) for _ in range(texts_wanted)]  # type: ignore[arg-type]
        if as_json:
            print_json({"run": str(trained.folder), "texts": texts})
        else:
            click.echo("\n".join(texts) if sampler.preprocessor.lines else "\n\n".join(texts))
        return
    for name in ("prompt", "length", "temperature", "top_k"):
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise OptionError(
                f"--{name.replace('_', '-')}: {trained.name} generates images; expected --n, --class, --seed or --out; leave it out"
            )
    _sample_images(sampler, count or 64, class_name, generator, out, as_json)


def _sample_images(
    sampler: Sampler, count: int, class_name: str | None, generator: Generator, out: Path | None, as_json: bool
) -> None:
    """Write a grid of images to a .png file."""
    path = out or Path(f"{sampler.run.folder.name}-sample.png")
    if path.suffix.lower() != ".png":
        raise OptionError(f"--out {path}: expected a name that ends in .png; write sample.png")
    if path.exists():
        raise OptionError(f"--out {path}: exists already; expected a new file; choose another name")
    classes = len(sampler.preprocessor.classes or [0])
    labels = np.arange(count) % classes if class_name is None else np.full(count, sampler.class_number(class_name))
    images = sampler.images(labels, generator)
    by_class = class_name is None and classes > 1 and sampler.conditional
    columns = min(count, classes) if by_class else round(count**0.5) or 1
    picture = image_grid(images, columns)
    if max(images.shape[1:3]) <= SMALL_SIDE:
        picture = picture.repeat(ENLARGE, 0).repeat(ENLARGE, 1)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    write_bytes(path, buffer.getvalue())
    names = [(sampler.preprocessor.classes or ["image"])[i] for i in labels] if sampler.conditional else []
    if as_json:
        print_json({"run": str(sampler.run.folder), "picture": str(path), "n": count, "classes": names})
    else:
        click.echo(
            f"{path}: {count} images, {columns} in each row"
            + (f", of {', '.join(names[:columns])}" if by_class else "")
        )
