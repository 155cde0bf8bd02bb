"""A small trained run of every family, for tests that look into networks; each is trained once for all workers."""

import csv
import math
import os
import random
import time
from pathlib import Path

from click.testing import CliRunner

from pellucid.cli import cli

FAMILIES = {  # name -> what `pellucid train` gets
    "mlp": ("digits", "--config", "plain", "--hidden-sizes", "32,16", "--epochs", "12"),
    "cnn": ("digits", "--model", "cnn", "--epochs", "3", "--set", "channels=8,16"),
    "table": ("people.csv", "--target", "income", "--epochs", "4"),
    "plain table": ("people.csv", "--target", "income", "--config", "plain", "--epochs", "30"),
    "series": ("waves.csv", "--target", "height", "--time-column", "hour", "--epochs", "3", "--set", "hidden_sizes=8"),
    "transformer": ("words.txt", "--model", "transformer", "--epochs", "2", "--set", "num_layers=2", "--set", "d_model=16",
                    "--set", "num_heads=2"),
    "text lstm": ("words.txt", "--model", "lstm", "--epochs", "2", "--set", "hidden_sizes=16"),
    "gan": ("digits", "--model", "gan", "--epochs", "1", "--set", "width=8", "--set", "critic_width=8"),
    "diffusion": ("digits", "--model", "diffusion", "--epochs", "1", "--set", "width=8"),
}  # fmt: skip


def family_run(base: Path, name: str) -> Path:
    """The folder of the run `name` of FAMILIES under `base`, trained where it is not there yet."""
    place = base / f"family-{name.replace(' ', '-')}"
    done = place / "done"
    try:
        place.mkdir()
    except FileExistsError:  # another worker trains it
        while not done.exists():
            if (place / "failed").exists():
                raise AssertionError((place / "failed").read_text()) from None
            time.sleep(0.1)
        return place / "run"
    _write_data(place)
    before = Path.cwd()
    os.chdir(place)
    try:
        data, *options = FAMILIES[name]
        result = CliRunner().invoke(cli, ["train", data, *options, "--quiet", "--run-dir", "run"])
    finally:
        os.chdir(before)
    if result.exit_code:
        (place / "failed").write_text(f"{name}: {result.output}")
        raise AssertionError(f"{name}: {result.output}")
    done.touch()
    return place / "run"


def _write_data(place: Path) -> None:
    chance = random.Random(0)
    with open(place / "people.csv", "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["age", "city", "hours", "income"])
        for _ in range(300):
            age, city, hours = chance.randint(18, 80), chance.choice(["Rome", "Oslo", "Bath"]), chance.randint(10, 60)
            out.writerow([age, city, hours, "yes" if age / 2 + hours + 15 * (city == "Oslo") > 70 else "no"])
    with open(place / "waves.csv", "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["hour", "height"])
        out.writerows([k, round(math.sin(k / 3) + chance.gauss(0, 0.1), 4)] for k in range(300))
    names = ["anna", "berta", "clara", "dora", "emma", "frida", "greta", "hanna", "ida", "jana"]
    (place / "words.txt").write_text("\n".join(chance.choice(names) + chance.choice(names) for _ in range(300)) + "\n")
