"""The results of all instances: what was injected, and what the diagnosis named."""

import json
from pathlib import Path
from typing import NamedTuple

from debugcnn.files.compact_json import write_json

RESULTS = Path(__file__).with_name("results.json")
NOTHING = "nothing"  # is named


class Result(NamedTuple):
    """One instance: a fault, or none, in one model.

    `kind` is that of the fault, or "healthy"; `half` "development" or "held out"; `expected` are
    the accepted causes, `faults` the causes with the verdict fault, the root first, `suspicious`
    those with that verdict; `accuracy` is the one that the report gives.
    """

    kind: str
    half: str
    expected: list[str]
    faults: list[str]
    suspicious: list[str]
    accuracy: float | None

    @property
    def first(self) -> str:
        """The cause that is named first, or NOTHING."""
        return first_named(self.faults)

    @property
    def correct(self) -> bool:
        """Whether the first cause is an accepted one; for a healthy model, that none is named."""
        return self.first in (self.expected or [NOTHING])


class Results(NamedTuple):
    """The hardware, and a result for the name of each instance, "fault / model seed"."""

    hardware: str
    instances: dict[str, Result]


def first_named(faults: list[str]) -> str:
    """The first of the named faults, or NOTHING."""
    return faults[0] if faults else NOTHING


def read(file: Path | None = None) -> Results:
    """The results in a file (RESULTS); without one, no instances."""
    file = file or RESULTS
    if not file.exists():
        return Results("", {})
    content = json.loads(file.read_text())
    instances = {name: Result(**result) for name, result in content["instances"].items()}
    return Results(content["hardware"], instances)


def write(results: Results, file: Path | None = None) -> None:
    """Write results, with one line for each instance."""
    instances = {name: result._asdict() for name, result in results.instances.items()}
    write_json(file or RESULTS, {"hardware": results.hardware, "instances": instances})
