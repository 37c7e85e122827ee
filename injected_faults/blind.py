"""Diagnose cases that someone made who does not know the checks, and count.

    python injected_faults/blind.py FOLDER --name NAME

Each folder in FOLDER is a case: model.keras; photos.npz with `photos` (n, h, w, c), uint8, and
`labels` (n,); train.npz, if there is one, with the same of photos that were trained on; custom.py,
if the model has layers of its own; and truth.json: {"kind": "fault", "weak" or "control",
"expected": the causes that are right answers, written down before anything was examined,
"value_range": what the program around the net feeds, "description"}. A cause that is in no
catalogue is "none_fits": then any fault that is named counts. What is named goes into
injected_faults/blind.json under NAME: what was named when a case was examined for the first time stays there,
and beside it stands what is named when it is examined again. injected_faults/README.md tells the totals.
"""

import argparse
import json
import os
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import debugcnn.quiet
import numpy as np

import diagnose
from injected_faults import tables

RESULTS = Path(__file__).with_name("blind.json")
BEGIN = "<!-- written by injected_faults/blind.py -->"
FIRST = "at first sight"


def examined(folder, truth):
    """The causes that are named of a case, the first one first."""
    custom = folder / "custom.py"
    if custom.exists():
        exec(custom.read_text(), {})  # registers layers
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of optimizers that are not loaded
        model = debugcnn.load_model(folder / "model.keras")
    photos, labels = read(folder / "photos.npz")
    train = folder / "train.npz"
    given = train.exists() and truth.get("train_given", True)
    try:
        report = diagnose.diagnose(
            model,
            photos,
            labels,
            train=read(train) if given else None,
            value_range=truth["value_range"],
        )
    except ValueError as error:
        return [f"not examined: {error}"]
    return [f.cause for f in report["findings"] if f.verdict == "fault"]


def read(file):
    with np.load(file) as found:
        return found["photos"], found["labels"]


def is_right(case, key):
    """Whether the first cause that is named is a right answer; of a sound net, that none is."""
    first = case[key][0] if case[key] else tables.SILENT
    if case["kind"] == "control":
        return first == tables.SILENT
    any_fault = "none_fits" in case["expected"] and first != tables.SILENT
    return first in case["expected"] or any_fault


def totals(cases, key):
    """{kind: (right, all)}"""
    kinds = ("fault", "weak", "control")
    some = {kind: [one for one in cases.values() if one["kind"] == kind] for kind in kinds}
    return {k: (sum(is_right(one, key) for one in found), len(found)) for k, found in some.items()}


def table(results):
    """Markdown: the totals of each set, at first sight and, where all were examined again, now."""
    lines = [
        "| set | a right answer first | the same of weaker faults | alarms on sound nets |",
        "|---|---|---|---|",
    ]
    for name, cases in results.items():
        for key, words in ((FIRST, "at first sight"), ("named", "now")):
            if all(key in one for one in cases.values()):
                (fault, faults), (weak, weaker), (silent, sound) = totals(cases, key).values()
                lines.append(
                    f"| {name}, {words} | {fault} of {faults} | {weak} of {weaker} | "
                    f"{sound - silent} of {sound} |"
                )
    return "\n".join(lines)


def missed(results):
    """Markdown: of the last set, what is not named first at first sight, and the alarms."""
    lines = ["| missed in the last set, at first sight | right answers | named |", "|---|---|---|"]
    for one in list(results.values())[-1].values():
        if not is_right(one, FIRST):
            right, instead = (
                ", ".join(some) or tables.SILENT for some in (one["expected"], one[FIRST][:2])
            )
            lines.append(f"| {one['description']} | {right} | {instead} |")
    return "\n".join(lines)


def sentence(results):
    """What the last set came to at first sight."""
    (fault, faults), (weak, weaker), (silent, sound) = totals(
        list(results.values())[-1], FIRST
    ).values()
    return (
        "Of cases by others, who did not know the checks, counted when they were examined for the "
        f"first time, {fault} of {faults} faults get a right answer first, {weak} of {weaker} "
        f"weaker ones, and {sound - silent} of {sound} sound nets raise an alarm."
    )


def write(results):
    """Put the tables into injected_faults/README.md, and the sentence into README.md."""
    tables.fill(tables.PAGE, BEGIN, f"{table(results)}\n\n{missed(results)}")
    tables.fill(tables.README, BEGIN, sentence(results))


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder of cases")
    parser.add_argument("--name", default="first set", help="of the set (first set)")
    args = parser.parse_args(arguments)
    files = sorted(args.folder.glob("*/truth.json"))
    if not files:
        sys.exit(f"{args.folder} holds no folder with a truth.json: give a folder of cases.")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    cases = results.setdefault(args.name, {})
    for file in files:
        truth = json.loads(file.read_text())
        named = examined(file.parent, truth)
        keys = "kind", "expected", "description", "value_range"
        known = cases.get(file.parent.name, {}).get(FIRST)
        cases[file.parent.name] = one = {key: truth[key] for key in keys}
        key = FIRST if known is None else "named"
        one |= {FIRST: known} if known is not None else {}
        one[key] = named
        right = "right" if is_right(one, key) else "WRONG"
        print(f"{right:<7}{file.parent.name:<32}{', '.join(named)}", flush=True)
        partial = RESULTS.with_suffix(".partial")
        partial.write_text(json.dumps(results, indent=1) + "\n")
        os.replace(partial, RESULTS)
    write(results)


if __name__ == "__main__":
    main()
