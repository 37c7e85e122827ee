"""JSON files that a person can read and compare line by line."""

import json
import os
from typing import Any

from .atomic import write_atomically


def write_json(path: str | os.PathLike[str], value: Any, depth: int = 2) -> None:
    """Write `value` as JSON, whole or not at all, with one line for each entry of the lists and
    dictionaries down to `depth`; what is nested deeper shares the line.

    Raises what `json.dumps` and `write_atomically` raise.
    """
    write_atomically(path, f"{_text(value, depth, '')}\n")


def _text(value: Any, depth: int, indent: str) -> str:
    if depth == 0 or not isinstance(value, (dict, list, tuple)) or not value:
        return json.dumps(value, ensure_ascii=False)
    inner = indent + " "
    if isinstance(value, dict):
        # dumps of a dictionary also converts keys, such as numbers, to strings
        names = (json.dumps({key: 0}, ensure_ascii=False)[1:-4] for key in value)
        lines = [
            f"{name}: {_text(entry, depth - 1, inner)}"
            for name, entry in zip(names, value.values())
        ]
        begin, end = "{}"
    else:
        lines = [_text(entry, depth - 1, inner) for entry in value]
        begin, end = "[]"
    return f"{begin}\n{inner}" + f",\n{inner}".join(lines) + f"\n{indent}{end}"
