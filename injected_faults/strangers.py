"""Diagnose classifiers of cats and dogs that people published; keep the results without names.

    python -m injected_faults.strangers FOLDER [--images data/validation]

FOLDER holds .keras and .h5 files, and truth.json, which lists what was established about each of
them from its program, its weights and by measurement: {file: {"faults": [...]}}. Each model is fed
pixels from 0 to 255, as by a program that knows nothing about it. The results go into
injected_faults/strangers.json, ordered by accuracy.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from debugcnn.diagnosis.command import main as command
from debugcnn.files.compact_json import write_json

RESULTS = Path(__file__).with_name("strangers.json")
# What was established, and the causes that are accepted for it.
ACCEPTED = {
    "needs_rescale": {"input_scale"},
    "untrained": {"untrained_layer"},
    "class_bias": {"threshold"},
    "saturated": {"saturated_answer"},
    "constant_output": {"constant_answer", "at_chance", "untrained_layer"},
    "at_chance": {"constant_answer", "at_chance", "untrained_layer"},
}


def examine(file: Path, images: str | os.PathLike[str]) -> dict[str, Any]:
    """What the diagnosis of a model names, and its accuracy before and after the images are fed
    as the diagnosis says.
    """
    with tempfile.TemporaryDirectory() as folder:
        report_file = Path(folder, "report.json")
        status = command([str(file), str(images), "--json", str(report_file)])
        if status == 2:  # the reason was printed
            raise ValueError(f"{file.name} was not examined.")
        report = json.loads(report_file.read_text())

    def causes(verdict: str) -> list[str]:
        return [f["cause"] for f in report["findings"] if f["verdict"] == verdict]

    return {
        "images": report["images"],
        "accuracy": report["accuracy_as_fed"],
        "fixed_accuracy": report["accuracy"],
        "value_range": report["value_range"],
        "faults": causes("fault"),
        "suspicious": causes("suspicious"),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m injected_faults.strangers", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("folder", type=Path, help="models and truth.json")
    parser.add_argument("--images", default="data/validation", help="a folder for each class")
    args = parser.parse_args(arguments)
    results = []
    for name, truth in json.loads((args.folder / "truth.json").read_text()).items():
        result = examine(args.folder / name, args.images)
        result["established"] = [fault for fault in truth["faults"] if fault in ACCEPTED]
        first_two = set(result["faults"][:2])
        result["in_first_two"] = [f for f in result["established"] if ACCEPTED[f] & first_two]
        results.append(result)
        print(f"{name:<20}{', '.join(result['established']):<50}{', '.join(result['faults'])}")
    results.sort(key=lambda result: -result["fixed_accuracy"])
    write_json(RESULTS, results, depth=1)


if __name__ == "__main__":
    main()
