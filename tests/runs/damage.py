"""Ways to damage a run: each gives (name, function that damages the folder), for JSON fields and for whole files."""

import json

from pellucid.runs.schema import DIGEST, field_digests, record_digest

DEEP = "[" * 5000 + "]" * 5000
HUGE = {"a huge text": "x" * 100_000, "a huge number": 10**15, "a number beyond 64 bits": 10**30}
OTHER = {"null": None, "a list": [1], "an object": {"a": 1}, "a text": "7", "a number": -7.5, "true": True}
FILES = ("config.json", "model.safetensors", "checkpoint.safetensors", "metrics.jsonl")


def paths(value, most=3):
    """Where something stands in a JSON value, as tuples of keys; of a long list the first `most` places."""
    items = (
        value.items() if isinstance(value, dict) else list(enumerate(value))[:most] if isinstance(value, list) else ()
    )
    for key, item in items:
        yield (key,)
        yield from ((key, *rest) for rest in paths(item, most))


def at(value, path):
    for key in path:
        value = value[key]
    return value


def changes(old):
    """(name, JSON text) of what may stand in the place of `old`; None for nothing at all."""
    yield "gone", None
    for name, new in {**OTHER, **HUGE}.items():
        if type(new) is not type(old) or name in HUGE:
            yield name, json.dumps(new)
    yield "nested deep", DEEP
    yield "not a number", "NaN"
    yield "infinite", "1e999"
    if isinstance(old, bool) or old is None:
        return
    if isinstance(old, int | float):
        yield "another number", json.dumps(old + 1)
        yield "a negative number", json.dumps(-old - 1)
    elif isinstance(old, str):
        yield "another text", json.dumps(old + "x")
        yield "an empty text", '""'
    elif isinstance(old, list):
        yield "an empty list", "[]"
        yield "a longer list", json.dumps([*old, *old[:1], *old[:1]])
    elif isinstance(old, dict):
        yield "an empty object", "{}"


def changed(record, path, new):
    """The JSON text of `record` with `new`, a JSON text, at `path`; None takes the place away."""
    record = json.loads(json.dumps(record))
    place = at(record, path[:-1])
    if new is None:
        del place[path[-1]]
        return json.dumps(record)
    place[path[-1]] = "\0here"
    return json.dumps(record).replace(json.dumps("\0here"), new)


def damaged_configs(folder):
    """Each field of config.json, changed in each way."""
    record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for path in paths(record):
        for name, new in changes(at(record, path)):
            yield "config.json", (*path, name), changed(record, path, new)


def resealed_configs(folder):
    """The same with digests that match, as a careless tool would write them, wherever they can be made."""
    for file, name, text in damaged_configs(folder):
        if name[0] in (DIGEST, "format") or name[:2] == ("settings", "epochs"):  # as many as somebody may ask for
            continue
        if name[:2] == ("settings", "eager"):  # compiles, which takes long
            continue
        try:
            record = json.loads(text)
        except (RecursionError, ValueError):
            continue
        fields = {key: value for key, value in record.items() if key not in ("format", DIGEST)}
        yield file, ("resealed", *name), json.dumps({**record, DIGEST: field_digests(fields)})


def damaged_logs(folder, reseal=False):
    """Each field of the first and of the last line of metrics.jsonl, changed in each way."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    for i in (0, len(lines) - 1):
        record = json.loads(lines[i])
        for path in paths(record, 2):
            for name, new in changes(at(record, path)):
                line = changed(record, path, new)
                if reseal:
                    if path[0] == DIGEST or new in (DEEP, "NaN", "1e999"):
                        continue
                    fields = {key: value for key, value in json.loads(line).items() if key != DIGEST}
                    line = json.dumps({**fields, DIGEST: record_digest(fields)})
                text = "\n".join([*lines[:i], line, *lines[i + 1 :]]) + "\n"
                yield "metrics.jsonl", (f"line {i + 1}", *path, name, *(["resealed"] if reseal else [])), text


def damaged_files(folder, bits=40):
    """Each file gone, empty, cut short, longer, of other bytes, and with a bit flipped here and there."""
    for file in FILES:
        content = (folder / file).read_bytes()
        yield file, ("gone",), None
        yield file, ("empty",), b""
        for share in (0.01, 0.3, 0.5, 0.9, 0.999):
            yield file, (f"cut to {share}",), content[: int(share * len(content))]
        yield file, ("longer",), content + b"\0" * 100
        yield file, ("all zeros",), b"\0" * len(content)
        yield file, ("no UTF-8",), b"\xff\xfe" + content
        for k in range(bits):
            bit = (k * 2_654_435_761) % (8 * len(content))
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            yield file, (f"bit {bit}",), bytes(flipped)
