"""Diagnose nets that people published, and keep what is said without their names.

    python injected_faults/strangers.py FOLDER [--photos data/validation]

FOLDER holds .keras and .h5 files of classifiers of the photos, and truth.json, what was established
of each of them from its program, its weights and by measurement: {file: {"faults": [...]}}. Each is
given pixels from 0 to 255, as a program that knows nothing of it would. What was found goes into
injected_faults/strangers.json, ordered by accuracy.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import debugcnn.quiet
import numpy as np

import diagnose
from checks import inputs

RESULTS = Path(__file__).with_name("strangers.json")
# What was established, and the causes that are right answers to it.
RIGHT = {
    "needs_rescale": {"input_scale"},
    "untrained": {"untrained_layer"},
    "class_bias": {"threshold"},
    "saturated": {"saturated_answer"},
    "constant_output": {"constant_answer", "at_chance", "untrained_layer"},
    "at_chance": {"constant_answer", "at_chance", "untrained_layer"},
}


def examined(model, photos):
    """What is said of a net, and how often it is right before and after it is fed otherwise."""
    given = dict(train=None, value_range=["0", "255"], classes=None, output=None, limit=500)
    case, *_ = diagnose.case_of(argparse.Namespace(model=model, photos=photos, **given))
    report = case.report()
    before = inputs.ask(case.model, *case.given, case.output).argmax(1) == case.labels
    return {
        "photos": len(case.labels),
        "accuracy": float(np.mean(before)),
        "accuracy as it should be fed": report["accuracy"],
        "value_range": str(report["value_range"]),
        "named": [f.cause for f in report["findings"] if f.verdict == "fault"],
        "suspicious": [f.cause for f in report["findings"] if f.verdict == "suspicious"],
    }


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="nets and truth.json")
    parser.add_argument("--photos", default="data/validation", help="a folder for each class")
    args = parser.parse_args(arguments)
    found = []
    for name, truth in json.loads((args.folder / "truth.json").read_text()).items():
        one = examined(args.folder / name, args.photos)
        one["established"] = [fault for fault in truth["faults"] if fault in RIGHT]
        told = set(one["named"][:2])
        one["told in the first two"] = [f for f in one["established"] if RIGHT[f] & told]
        found.append(one)
        print(f"{name:<20}{', '.join(one['established']):<50}{', '.join(one['named'])}", flush=True)
    found.sort(key=lambda one: -one["accuracy as it should be fed"])
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
