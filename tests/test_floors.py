"""The house rules of DESIGN.md, read from the source: who may import whom, and what `import pellucid` costs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import pellucid

ROOT = Path(pellucid.__file__).parent
FILES = sorted(p for p in ROOT.rglob("*.py"))

# Floors: an import points to a lower floor, or stays in its own room. Within a floor, rooms may read each other only as
# told in SAME_FLOOR.
FLOORS = {
    "errors": 0,
    "files": 1, "core": 1, "threads": 1, "cuda": 1,
    "ops": 2, "arguments": 2, "grad_mode": 2,
    "tensor": 3, "indexing": 3, "creation": 3, "random": 3, "functional": 3, "autograd": 3,
    "compiler": 4, "nn": 4, "optim": 4, "data": 4, "utils": 4, "serialization": 4,
    "models": 5,
    "inspect": 6, "runs": 6,
    "evaluation": 7,
    "inference": 8,
    "report": 9,
    "training": 10,
    "cli": 11,
    "__main__": 12,
}  # fmt: skip

# Floor mates that may be imported, and why.
SAME_FLOOR = {
    ("tensor", "indexing"): "x[key] stands in a file of its own",
    ("creation", "tensor"): "makes Tensors",
    ("random", "tensor"): "distributions are Tensors",
    ("random", "creation"): "the generator's state is one",
    ("functional", "tensor"): "composites over Tensors",
    ("functional", "creation"): "and new ones",
    ("functional", "random"): "dropout",
    ("autograd", "tensor"): "gradients are Tensors",
    ("utils", "data"): "PyTorch's address for the DataLoader",
    ("serialization", "nn"): "a Module is saved by its state_dict",
}

# Floors inside the compiler, by folder or by file (the longest name that fits counts). An import points to a lower floor, or
# stays on its own.
COMPILER_FLOORS = {
    "ir": 0, "guards": 0,
    "passes": 1,
    "trace": 2,
    "backends/interpreter": 3, "backends/protocol": 3, "backends/in_turn": 3,
    "backends/cpu/prepare": 3,
    "backends/cpu/costs": 3, "backends/cpu/target": 3, "backends/cpu/llvm": 3, "backends/cpu/kernel_ir": 3,
    "backends/cpu/kernels": 4,
    "backends/cpu": 5,
    "backends": 6,
    "": 7,
}  # fmt: skip

# Imports inside a function: (file, module) -> why it cannot stand at the top.
LAZY = {
    ("compiler/backends/__init__.py", "pellucid.compiler.backends.cpu.program"): "LLVM; most programs never compile",
    ("compiler/backends/__init__.py", "pellucid.compiler.backends.cpu.two_phase_program"): "LLVM, as above",
    (
        "compiler/backends/__init__.py",
        "pellucid.compiler.backends.interpreter",
    ): "a backend is imported when it is used",
    (
        "compiler/backends/cpu/program.py",
        "pellucid.compiler.backends.cpu.profile",
    ): "only for looking; it imports this file",
    ("data/__init__.py", "pellucid.data.frames"): "duckdb and narwhals; most programs bring batches of their own",
    ("data/datasets.py", "pellucid.data.generated"): "scikit-learn; most data sets are files",
    ("data/text/tokenize.py", "tokenizers"): "an extra, needed by --tokenizer bpe alone",
    ("inspect/matching.py", "scipy.optimize"): "half a second, for units of two networks that are matched alone",
    ("ops/elementwise.py", "scipy.special"): "erf; takes longer to import than all of pellucid",
    ("runs/run.py", "pellucid.data.load"): "duckdb; most commands that look at runs read no data",
    ("runs/run.py", "pellucid.data.kinds"): "duckdb, as above",
    ("threads.py", "threadpoolctl"): "asked for by few programs",
    (
        "training/fitted_parts.py",
        "pellucid.training.linear_start",
    ): "scikit-learn, as above; tables alone begin with a line",
    (
        "evaluation/evaluator.py",
        "pellucid.evaluation.baselines",
    ): "scikit-learn; a second that a resumed or failing run should not pay",
}

# Third-party packages, and the rooms that may import them (None: everywhere). The last ones never at `import pellucid`.
PACKAGES: dict[str, set[str] | None] = {
    "numpy": None,
    "safetensors": {"serialization"},
    "scipy": {"ops", "evaluation", "inspect"},
    "threadpoolctl": {"threads"},
    "llvmlite": {"compiler"},
    "sklearn": {"data", "evaluation", "training"},
    "duckdb": {"data"},
    "narwhals": {"data"},
    "python_calamine": {"data"},
    "tokenizers": {"data"},
    "PIL": {"data", "training", "evaluation", "inference", "report", "inspect", "cli"},
    "jinja2": {"report"},
    "markupsafe": {"report"},
    "rich": {"cli"},
    "click": {"cli"},
}
HEAVY = (
    "llvmlite",
    "sklearn",
    "tokenizers",
    "duckdb",
    "narwhals",
    "python_calamine",
    "scipy",
    "PIL",
    "rich",
    "click",
    "jinja2",
)


def room(path: Path) -> str:
    """`ops/index.py` -> "ops", `random.py` -> "random"."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> list[tuple[str, ast.stmt, bool]]:
    """(absolute dotted name, statement, whether it stands inside a function) for every import of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    package = ["pellucid", *path.relative_to(ROOT).parts[:-1]]
    found: list[tuple[str, ast.stmt, bool]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node, id(node) in inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found += [(".".join([*base, name]), node, id(node) in inside) for name in names]
    return found


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_downward(path: Path) -> None:
    here = room(path)
    if here == "__init__":
        return  # the public list stands above every floor
    assert here in FLOORS, f"{name_of(path)}: give {here!r} a floor in FLOORS and in DESIGN.md"
    for name, node, _ in imports(path):
        if name.split(".")[0] != "pellucid":
            continue
        parts = name.split(".")
        there = parts[1] if len(parts) > 1 else "__init__"
        if there in (here, "__init__") and there == here:
            continue
        assert there in FLOORS, (
            f"{name_of(path)}:{node.lineno} imports pellucid itself; import the file that has the name"
        )
        down = FLOORS[there] < FLOORS[here]
        assert down or (here, there) in SAME_FLOOR, (
            f"{name_of(path)}:{node.lineno}: {here} (floor {FLOORS[here]}) imports {there} (floor {FLOORS[there]})"
        )


@pytest.mark.parametrize("path", [p for p in FILES if room(p) != "__init__"], ids=name_of)
def test_docstrings_name_the_floor(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    named = [int(number) for number in re.findall(r"\(floor (\d+)\)", docstring)]
    assert named == [FLOORS[room(path)]], f"{name_of(path)}: write (floor {FLOORS[room(path)]}) once in its docstring"


def compiler_room(name: str) -> str:
    """The entry of COMPILER_FLOORS for a file or folder of `compiler/`: "passes/simplify" -> "passes"."""
    fitting = [room for room in COMPILER_FLOORS if not room or name == room or name.startswith(f"{room}/")]
    return max(fitting, key=len)


@pytest.mark.parametrize("path", [p for p in FILES if room(p) == "compiler"], ids=name_of)
def test_imports_inside_the_compiler_point_downward(path: Path) -> None:
    here = compiler_room(path.relative_to(ROOT / "compiler").as_posix().removesuffix(".py").removesuffix("/__init__"))
    for name, node, _ in imports(path):
        if not name.startswith("pellucid.compiler."):
            continue
        there = compiler_room("/".join(name.split(".")[2:]))
        where = f"{name_of(path)}:{node.lineno}"
        assert there == here or COMPILER_FLOORS[there] <= COMPILER_FLOORS[here], (
            f"{where}: {here or 'compiler'} (floor {COMPILER_FLOORS[here]}) imports {there} (floor {COMPILER_FLOORS[there]})"
        )


def test_compiler_rooms_on_one_floor_have_no_circle() -> None:
    arrows = {
        (
            compiler_room(path.relative_to(ROOT / "compiler").as_posix().removesuffix(".py")),
            compiler_room("/".join(name.split(".")[2:])),
        )
        for path in FILES
        if room(path) == "compiler"
        for name, _, _ in imports(path)
        if name.startswith("pellucid.compiler.")
    }
    assert [(a, b) for a, b in arrows if a != b and (b, a) in arrows] == []
    assert {room for arrow in arrows for room in arrow} == set(COMPILER_FLOORS)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_stand_at_the_top(path: Path) -> None:
    checks = [n for n in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(n, ast.If)]
    typing_only = {
        line
        for n in checks
        if "TYPE_CHECKING" in ast.unparse(n.test)
        for line in range(n.lineno, (n.end_lineno or 0) + 1)
    }
    for name, node, inside in imports(path):
        if inside:
            assert (name_of(path), name) in LAZY, (
                f"{name_of(path)}:{node.lineno}: import {name} inside a function; move it to the top, or say why not in LAZY here"
            )
        else:
            free = node.col_offset == 0 or node.lineno in typing_only
            assert free, f"{name_of(path)}:{node.lineno}: import {name} under a condition"


def test_the_lists_of_exceptions_have_no_dead_entries() -> None:
    used = {(name_of(path), name) for path in FILES for name, _, inside in imports(path) if inside}
    assert set(LAZY) <= used
    rooms = {
        (room(path), name.split(".")[1])
        for path in FILES
        for name, _, _ in imports(path)
        if name.startswith("pellucid.")
    }
    assert set(SAME_FLOOR) <= rooms


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_packages_stay_in_their_rooms(path: Path) -> None:
    for name, node, _ in imports(path):
        package = name.split(".")[0]
        if package == "pellucid" or package in sys.stdlib_module_names:
            continue
        assert package in PACKAGES, f"{name_of(path)}:{node.lineno}: {package} is no dependency"
        rooms = PACKAGES[package]
        assert rooms is None or room(path) in rooms, (
            f"{name_of(path)}:{node.lineno}: {package} belongs in {sorted(rooms)}"
        )


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_says_what_it_is_and_stays_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    if not text.strip():
        return
    assert ast.get_docstring(tree), f"{name_of(path)} has no opening paragraph"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, (
                f"{name_of(path)}:{node.lineno}: {node.name} has {length} lines; name the two things it has become"
            )


@pytest.mark.parametrize("module", ["pellucid", "pellucid.nn", "pellucid.data", "pellucid.optim"])
def test_importing_is_light(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT.parent)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_the_public_list_is_sorted_and_every_name_exists() -> None:
    names = pellucid.__all__
    assert names == sorted(set(names))
    assert [name for name in names if not hasattr(pellucid, name)] == []
    assert all(not name.startswith("_") for name in names)
    for package in ("nn", "optim", "data"):
        listed = getattr(__import__(f"pellucid.{package}", fromlist=["__all__"]), "__all__", [])
        assert listed and len(set(listed)) == len(listed), f"pellucid.{package}.__all__"  # ruff keeps it sorted
        assert all(hasattr(getattr(pellucid, package), name) for name in listed if package != "data")


MOST_ATTRIBUTES, MANY_ATTRIBUTES, MOST_WITH_MANY = 15, 10, 6


def attributes_of(node: ast.ClassDef) -> set[str]:
    """The names that a class assigns on `self`, and the fields of a dataclass; none of a frozen dataclass."""
    decorators = [ast.unparse(d) for d in node.decorator_list]
    if any(d.startswith("dataclass") and "frozen=True" in d for d in decorators):
        return set()
    stores = (x for x in ast.walk(node) if isinstance(x, ast.Attribute) and isinstance(x.ctx, ast.Store))
    names = {x.attr for x in stores if isinstance(x.value, ast.Name) and x.value.id == "self"}
    if any(d.startswith("dataclass") for d in decorators):
        names |= {x.target.id for x in node.body if isinstance(x, ast.AnnAssign) and isinstance(x.target, ast.Name)}
    return names


def test_objects_stay_small() -> None:
    """An object that needs more attributes is two things (DESIGN.md 2)."""
    counts = {
        (name_of(path), node.name): len(attributes_of(node))
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    }
    assert {key for key, count in counts.items() if count > MOST_ATTRIBUTES} == set()
    assert sum(count > MANY_ATTRIBUTES for count in counts.values()) <= MOST_WITH_MANY


LARGE_CLASS, LARGE_SHARE = 150, 0.15  # lines; of the lines of a room
LARGER_SHARES = {
    "tensor": 0.65,  # the class is PyTorch's 165 methods; they are cut by kind, and each is a line that calls an operation
}


def test_large_classes_stay_few() -> None:
    """A class of many lines hides what each method reads and writes; a phase is a function between dataclasses (DESIGN.md 2)."""
    large, whole = Counter[str](), Counter[str]()
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        whole[room(path)] += text.count("\n")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and (lines := node.end_lineno - node.lineno + 1) > LARGE_CLASS:
                large[room(path)] += lines
    shares = {name: large[name] / whole[name] for name in whole}
    assert {name: share for name, share in shares.items() if share > LARGER_SHARES.get(name, LARGE_SHARE)} == {}
    assert all(shares[name] > LARGE_SHARE for name in LARGER_SHARES), "an exception that is none any more"
