"""The data sets known by name: descriptions, download addresses, and their files on this machine (floor 4).

A file is looked for in `PELLUCID_DATA` (a folder laid out like the paths here), then in the cache, then fetched and
checked by SHA-256. Reading them is left to `load.py`. Digits come with scikit-learn, and others are made by `generated.py`:
these need no network.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import importlib.util
import os
import sys
import threading
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError, suggestion

Progress = Callable[[str, int, int], None]  # file name, bytes so far, bytes in all (0 when unknown)
TIMEOUT = 30  # seconds without a byte before a download is given up
CHUNK = 1 << 18


@dataclass(frozen=True)
class File:
    """A file of a data set. sha256 is of its bytes, or of the unpacked bytes where `unpacked` (gzip may be redone)."""

    path: str  # inside PELLUCID_DATA and the cache
    sha256: str
    size: int
    url: str | None = None
    unpacked: bool = False


@dataclass(frozen=True)
class Dataset:
    """A line of `pellucid datasets`. `columns` ... `last` are options of its kind."""

    name: str
    kind: str  # a key of `kinds.KINDS`
    about: str
    rows: str
    licence: str
    address: str  # where its files come from, for people
    files: tuple[File, ...] = ()
    columns: tuple[str, ...] = ()  # names of a table without a header
    target: str | None = None
    time: str | None = None  # the column of a series that says when a row was
    test: str | None = None  # path of the file that is the test set
    strip_label: str | None = None
    line_by_line: bool = False  # whether each line of a text is an example
    last: float = 0.0  # share at the end of a text that is validation and test at once, as is usual for it
    generated: bool = False  # whether its file is made on this machine, by the function of its name in `generated.py`

    @property
    def size(self) -> int:
        """Bytes of all its files, as stored."""
        return sum(file.size for file in self.files)

    @property
    def at_hand(self) -> bool:
        """Whether it can be read now, without a network."""
        if self.name == "digits":
            return digits_file() is not None
        return self.generated or all(_here(file) is not None for file in self.files)


_TABLES = "https://raw.githubusercontent.com/jbrownlee/Datasets/d20fcb6402ae34e653d4513b00f39257bb37ed7f/"
_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"


def _mnist(name: str, sha256: str, size: int) -> File:
    return File(f"mnist/{name}.gz", sha256, size, f"{_MNIST}{name}.gz", unpacked=True)


def _table(name: str, sha256: str, size: int) -> File:
    return File(f"tabular/{name}", sha256, size, _TABLES + name)


def _points(name: str, about: str, made_by: str, sha256: str, size: int) -> Dataset:
    return Dataset(name, "table", about, "1,000", "public domain", f"made on this machine, {made_by}",
                   (File(f"generated/{name}.csv", sha256, size),), ("x1", "x2", "class"), "class", generated=True)  # fmt: skip


DATASETS = (
    Dataset(
        "digits", "image", "handwritten digits, 8x8", "1,797", "CC BY 4.0",
        "https://archive.ics.uci.edu/dataset/80 (comes with scikit-learn)",
        (File("digits.csv.gz", "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8", 57_523, unpacked=True),),
    ),
    Dataset(
        "mnist", "image", "handwritten digits, 28x28", "60,000 + 10,000", "CC BY-SA 3.0", _MNIST,
        (
            _mnist("train-images-idx3-ubyte", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", 9_912_422),
            _mnist("train-labels-idx1-ubyte", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", 28_881),
            _mnist("t10k-images-idx3-ubyte", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", 1_648_877),
            _mnist("t10k-labels-idx1-ubyte", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", 4_542),
        ),
    ),
    Dataset(
        "adult", "table", "does a person earn over 50,000 dollars? census of 1994", "32,561 + 16,281", "CC BY 4.0",
        "https://archive.ics.uci.edu/dataset/2",
        (
            _table("adult-train.csv", "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d", 3_974_305),
            _table("adult-test.csv", "72567b94f5c1a6f8501377dd80f93892c3848ff071cf91ba47e00b0785a28074", 2_003_132),
        ),
        columns=("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship",
                 "race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income"),
        target="income", test="tabular/adult-test.csv", strip_label=".",
    ),
    Dataset(
        "housing", "table", "house prices in Boston, 1978; column B encodes race", "506", "see the address",
        "https://lib.stat.cmu.edu/datasets/boston",
        (_table("housing.csv", "2682ca02e83b89467d7d0cdcbde7c0cc4d2566119be8ce8d84dad4f0fa20859a", 41_295),),
        columns=("CRIM", "ZN", "INDUS", "CHAS", "NOX", "RM", "AGE", "DIS", "RAD", "TAX", "PTRATIO", "B", "LSTAT", "MEDV"),
        target="MEDV",
    ),
    Dataset(
        "abalone", "table", "the age of a shellfish, by its rings", "4,177", "CC BY 4.0", "https://archive.ics.uci.edu/dataset/1",
        (_table("abalone.csv", "eb2de13be807e9bb9ec4128b9c89b98ab23d7739121cfd17b7dde69b46ba7bf6", 191_872),),
        columns=("sex", "length", "diameter", "height", "whole weight", "shucked weight", "viscera weight", "shell weight", "rings"),
        target="rings",
    ),
    Dataset(
        "pima", "table", "diabetes within five years, Pima women", "768", "see the address",
        "https://github.com/jbrownlee/Datasets",
        (_table("pima-indians-diabetes.csv", "6bfe5d0f379d17a0e0819b996407e3c09bf80febd4287f2ed212190dfff154af", 23_278),),
        columns=("pregnancies", "glucose", "blood pressure", "skin thickness", "insulin", "bmi", "pedigree", "age", "diabetes"),
        target="diabetes",
    ),
    Dataset(
        "temperatures", "series", "daily minimum in Melbourne, 1981-1990", "3,650", "see the address", "https://www.bom.gov.au",
        (_table("daily-min-temperatures.csv", "8b9de63ed6789492bf497625e7f9beb96a63d367b4b0a21754006f749fa5e5da", 67_921),),
        target="Temp", time="Date",
    ),
    Dataset(
        "shakespeare", "text", "plays of Shakespeare, 1.1 million characters", "40,000 lines", "public domain",
        "https://github.com/karpathy/char-rnn",
        (File("text/tinyshakespeare.txt", "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed", 1_115_394,
              "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"),),
        last=0.1,
    ),
    Dataset(
        "names", "text", "first names, one a line", "32,033", "public domain", "https://github.com/karpathy/makemore",
        (File("text/names.txt", "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d", 228_145,
              "https://raw.githubusercontent.com/karpathy/makemore/master/names.txt"),),
        line_by_line=True,
    ),
    Dataset(
        "cifar10", "image", "ten kinds of thing, 32x32 JPEG", "50,000 + 10,000", "see the address",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        (File("images/cifar10-jpeg.tar.gz", "0bfcb68717a0ecb0d51ed61034906a773d48d424d94b766a46d7d1c55702a4d9", 19_432_150),),
    ),
    _points("xor", "points: four corners, 1 where one of x1, x2 is near 1", "each corner with normal noise of 0.15",
            "e8ad9a3fe7950310ccdb1f9730a5d752337b6c4de213e3aa7df4b111b45a4ccf", 16_491),
    _points("moons", "points: two half circles, each inside the other", "by scikit-learn's make_moons",
            "d73108be082317078519649f1f4c6379bf909c2eb7cb5a400b259f6cb751670d", 20_639),
    _points("circles", "points: a circle inside a circle", "by scikit-learn's make_circles",
            "4c8ac2dabad98d2aad0783c4d94bd5fca50a568276725f41348ac5a96d9eeb9d", 20_992),
    _points("spiral", "points: three arms of a spiral", "each arm two thirds of a turn",
            "a59edaa3afce94af198eb73def609690b93b9000253eb8807b7d43d803a35d16", 16_998),
)  # fmt: skip


def catalogue() -> list[Dataset]:
    """All data sets known by name, in the order they are shown."""
    return list(DATASETS)


def find(name: str) -> Dataset | None:
    """The data set of that name, or None."""
    return next((dataset for dataset in DATASETS if dataset.name == name), None)


# ---- where files are ---------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where downloads are kept: PELLUCID_CACHE, else the platform's own place for caches."""
    if chosen := os.environ.get("PELLUCID_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "pellucid" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "pellucid"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pellucid"


def digits_file() -> Path | None:
    """The digits inside scikit-learn's package, found without importing it (that takes a second); None without it."""
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    return path if path.is_file() else None


def _here(file: File) -> Path | None:
    chosen = os.environ.get("PELLUCID_DATA")
    paths = [Path(chosen) / file.path] if chosen else []
    return next((path for path in [*paths, cache_folder() / file.path] if path.is_file()), None)


def locate(dataset: Dataset, progress: Progress | None = None) -> dict[str, Path]:
    """Each file of `dataset` on this machine, by its path in the catalogue; fetched or made in the cache where need be.

    Raises DataError, with the address and the place to put the file, where it is neither here nor to be had.
    """
    if dataset.name == "digits":
        path = digits_file()
        if path is None:
            raise DataError("digits: scikit-learn's copy of them is missing; expected digits.csv.gz in its package; "
                            "install scikit-learn again")  # fmt: skip
        return {"digits.csv.gz": path}
    if dataset.generated:
        return {file.path: _generate(dataset.name, file) for file in dataset.files}
    return {file.path: _here(file) or _fetch(dataset, file, progress) for file in dataset.files}


def _generate(name: str, file: File) -> Path:
    """The file of a data set that is made; made again where what lies there was changed."""
    path = _here(file)
    if path is not None and _hash(path, file.unpacked) == file.sha256:
        return path
    from .generated import GENERATORS  # scikit-learn takes a second to import

    goal = cache_folder() / file.path
    try:
        with _replacing(goal) as part:
            part.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(GENERATORS[name]())
    except OSError as error:
        raise _unwritable(goal, error) from None
    return goal


@contextlib.contextmanager
def _replacing(goal: Path) -> Iterator[Path]:
    """A path to write to, put in the place of `goal` in one step where no error is raised, and removed otherwise."""
    part = goal.with_name(goal.name + f".{os.getpid()}-{threading.get_ident()}.part")
    try:
        yield part
        os.replace(part, goal)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def _unwritable(goal: Path, error: OSError) -> DataError:
    return DataError(f"{goal}: cannot be written ({error.strerror or error}); free some space or set PELLUCID_CACHE to "
                     "a folder that can be written")  # fmt: skip


def _fetch(dataset: Dataset, file: File, progress: Progress | None) -> Path:
    goal = cache_folder() / file.path
    remedy = f"put it at {goal}, or set PELLUCID_DATA to a folder that has {file.path}"
    if file.url is None:
        raise DataError(f"{dataset.name}: {file.path} is not on this machine and has no address to fetch it from; "
                        f"see {dataset.address} and {remedy}")  # fmt: skip
    try:
        with _replacing(goal) as part:
            _download(file.url, part, progress)
            digest = _hash(part, file.unpacked)
            if digest != file.sha256:
                raise DataError(f"{dataset.name}: {file.url} gave bytes with SHA-256 {digest[:16]}..., expected {file.sha256[:16]}...; "
                                f"nothing was kept; try again, or fetch it elsewhere and {remedy}")  # fmt: skip
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(f"{dataset.name}: not on this machine, and {file.url} cannot be reached ({reason}); "
                        f"fetch the file elsewhere and {remedy}") from None  # fmt: skip
    except OSError as error:
        raise _unwritable(goal, error) from None
    return goal


def _download(url: str, part: Path, progress: Progress | None) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
        whole, done = int(response.headers.get("Content-Length") or 0), 0
        part.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(url.rsplit("/", 1)[-1], done, whole)
    if whole and done < whole:
        raise ConnectionError(f"the connection ended after {done:,} of {whole:,} bytes")


def _hash(path: Path, unpacked: bool) -> str:
    digest = hashlib.sha256()
    try:
        with gzip.open(path) if unpacked else open(path, "rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return "(damaged gzip)"
    return digest.hexdigest()


def unknown(spec: str) -> DataError:
    """The error for a DATA that is neither a known name nor a path."""
    names = [dataset.name for dataset in DATASETS]
    folder, beside = Path(spec).parent, []
    with contextlib.suppress(OSError, ValueError):  # a suggestion is not worth an error
        beside = [str(folder / path.name) for path in folder.iterdir()]
    hint = suggestion(spec, [*names, *beside])
    return DataError(f"{spec}: no data set of that name and no such file; expected one of {', '.join(names)}, or the path of "
                     f"a table, text or folder.{hint or ' See `pellucid datasets`.'}")  # fmt: skip
