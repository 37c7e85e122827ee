"""Diagnose cases made by someone who does not know the checks, and count.

    python -m injected_faults.blind FOLDER --name NAME

Each folder in FOLDER is a case:
- model.keras, and custom.py, if the model has custom layers;
- photos.npz with `photos` (n, h, w, c) uint8 and `labels` (n,);
- train.npz, if the training images are known, with the same of them;
- truth.json: {"kind": "fault", "weak" or "control", "expected": the accepted causes, written down
  before anything was examined, "value_range": the range that the program around the model feeds,
  "description"}.
Where the catalogue has no cause for a fault, "none_fits" accepts any fault that is named.

The result goes into injected_faults/blind.json under NAME. What was named when a case was examined
for the first time (the first-sight result) stays there; what is named when it is examined again is
kept beside it. injected_faults/README.md has the totals.
"""

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import debugcnn
from debugcnn.files.compact_json import write_json

from . import tables
from .datasets import Labelled
from .results import NOTHING, first_named

RESULTS = Path(__file__).with_name("blind.json")
BEGIN = "<!-- written by injected_faults/blind.py -->"
KINDS = ("fault", "weak", "control")
RUNS = {"first_sight": "first-sight result", "again": "after changes"}

Case = dict[str, Any]  # {"kind", "expected", "first_sight", "again" (if examined again), ...}
Sets = dict[str, dict[str, Case]]  # the cases of each set, by their names


def read(file: Path | None = None) -> Sets:
    """The cases in a file of results (RESULTS); without one, none."""
    file = file or RESULTS
    return json.loads(file.read_text()) if file.exists() else {}


def examine(folder: Path, truth: dict[str, Any]) -> list[str]:
    """The causes that are named for a case, the root first."""
    custom = folder / "custom.py"
    if custom.exists():
        exec(custom.read_text(), {})  # registers layers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of optimizers that are not loaded
        model = debugcnn.load_model(folder / "model.keras")
    train = folder / "train.npz"
    known = train.exists() and truth.get("train_given", True)
    value_range = truth["value_range"]
    try:
        report = debugcnn.diagnose(
            model,
            *_labelled(folder / "photos.npz"),
            train=_labelled(train) if known else None,
            value_range=value_range if isinstance(value_range, str) else tuple(value_range),
        )
    except ValueError as error:
        return [f"not examined: {error}"]
    return [finding.cause for finding in report.faults]


def _labelled(file: Path) -> Labelled:
    with np.load(file) as arrays:
        return arrays["photos"], arrays["labels"]


def is_correct(case: Case, run: str) -> bool:
    """Whether the first cause named in a run, one of RUNS, is an accepted one; for a control, that
    none is named.
    """
    first = first_named(case[run])
    if case["kind"] == "control":
        return first == NOTHING
    return first in case["expected"] or ("none_fits" in case["expected"] and first != NOTHING)


def totals(cases: dict[str, Case], run: str) -> dict[str, tuple[int, int]]:
    """How many cases of each kind are diagnosed correctly, and how many there are."""
    counts = {}
    for kind in KINDS:
        correct = [is_correct(case, run) for case in cases.values() if case["kind"] == kind]
        counts[kind] = sum(correct), len(correct)
    return counts


def table(sets: Sets) -> str:
    """Markdown: the totals of each set, and the same after all its cases were examined again."""
    lines = [
        "| set | accepted cause first | of weaker faults | false alarms on healthy models |",
        "|---|---|---|---|",
    ]
    for name, cases in sets.items():
        for run, title in RUNS.items():
            if all(run in case for case in cases.values()):
                cells = _cells(totals(cases, run))
                lines.append(f"| {name}, {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(counts):
    (fault, faults), (weak, weaker), (silent, healthy) = (counts[kind] for kind in KINDS)
    return f"{fault} of {faults}", f"{weak} of {weaker}", f"{healthy - silent} of {healthy}"


def missed(sets: Sets) -> str:
    """Markdown: which cases of the last set the first-sight result misses."""
    lines = ["| missed at first sight in the last set | accepted causes | named |", "|---|---|---|"]
    for case in list(sets.values())[-1].values():
        if not is_correct(case, "first_sight"):
            expected = ", ".join(case["expected"]) or NOTHING
            named = ", ".join(case["first_sight"][:2]) or NOTHING
            lines.append(f"| {case['description']} | {expected} | {named} |")
    return "\n".join(lines)


def sentence(sets: Sets) -> str:
    """The first-sight result of the last set."""
    fault, weak, alarms = _cells(totals(list(sets.values())[-1], "first_sight"))
    return (
        "On cases made by others who did not know the checks, each scored once and before any "
        f"change (the first-sight result of the last set), an accepted cause is named first for "
        f"{fault} faults and for {weak} weaker ones, with false alarms on {alarms} healthy models."
    )


def write(sets: Sets) -> None:
    """Put the tables into injected_faults/README.md, and the sentence into README.md."""
    tables.fill(tables.PAGE, BEGIN, f"{table(sets)}\n\n{missed(sets)}")
    tables.fill(tables.README, BEGIN, sentence(sets))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m injected_faults.blind", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("folder", type=Path, help="a folder of cases")
    parser.add_argument("--name", default="first set", help="of the set (first set)")
    args = parser.parse_args(arguments)
    files = sorted(args.folder.glob("*/truth.json"))
    if not files:
        sys.exit(f"{args.folder} holds no folder with a truth.json: name a folder of cases.")
    sets = read()
    cases = sets.setdefault(args.name, {})
    for file in files:
        truth, name = json.loads(file.read_text()), file.parent.name
        known = cases.get(name, {})
        case = {key: truth[key] for key in ("kind", "expected", "description")}
        if "first_sight" in known:
            case["first_sight"] = known["first_sight"]
        run = "again" if "first_sight" in known else "first_sight"
        case[run] = examine(file.parent, truth)
        cases[name] = case
        write_json(RESULTS, sets)
        verdict = "correct" if is_correct(case, run) else "WRONG"
        print(f"{verdict:<9}{name:<32}{', '.join(case[run])}", flush=True)
    write(sets)


if __name__ == "__main__":
    main()
