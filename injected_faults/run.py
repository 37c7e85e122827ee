"""Inject every fault, diagnose the model, and count how often the diagnosis is correct.

    python -m injected_faults.run [NAME ...] [--data data]

`--data` is a folder that data_separator.py wrote. Models are trained on images of its train split
and examined on images of its validation split; the test split is not touched. Trained models stay
in injected_faults/work and results in injected_faults/results.json: interrupted runs resume, and
finished instances are skipped. Instances whose names contain a NAME are examined again; " / " is in
all names. A run from the start takes about two hours on two processor cores.
"""

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import debugcnn
from debugcnn.hardware import hardware

from . import experiments, models, results, tables
from .experiments import Experiment, Inject
from .faults import FAULTS, Fault

SHOWN = Path(__file__).parent / "models"
IN_NOTEBOOK = {  # models that DebuggingCNN.ipynb shows
    "healthy": "healthy / normalised 0",
    "marked": "mark on all dogs / normalised 0",
    "one_unit": "softmax on a single unit / normalised 0",
    "memorized": "200 images, memorized / classic 0",
}
SEEDS = (0, 1)  # of the development half, on which limits were set
DEVELOPED = (("normalised", 0), ("classic", 1), ("upright", 0), ("digits", 0))  # healthy, of it
HELD_OUT = (("residual", 3), ("classic", 4))  # models and seeds of the other half


@dataclass(frozen=True)
class Instance:
    """A fault, or none, in one model: the arguments of an `Experiment`, and what is accepted."""

    name: str
    half: str
    kind: str
    expected: frozenset[str]
    inject: Inject
    model_name: str
    seed: int
    sample: int
    retrains: bool = False


def instances() -> Iterator[Instance]:
    """All instances: every fault in several models, then the healthy models."""
    for number, (name, fault) in enumerate(FAULTS.items()):
        for model_name, seed in _development(fault):
            yield _instance(name, fault, "development", model_name, seed, sample=0)
        for model_name, seed in _held_out(fault, number):
            sample = seed if model_name == "upright" else 2
            yield _instance(name, fault, "held out", model_name, seed, sample)
    healthy = [(model, "development", (0, 1)) for model in DEVELOPED]
    healthy += [(model, "held out", (2, 3)) for model in (("upright", 0), *HELD_OUT)]
    healthy += [(("shapes", 0), "held out", (0, 1))]
    for (model_name, seed), half, samples in healthy:
        for sample in samples:
            name = f"healthy / {model_name} {seed}, sample {sample}"
            nothing = frozenset(), experiments.healthy
            yield Instance(name, half, "healthy", *nothing, model_name, seed, sample)


def _instance(name, fault, half, model_name, seed, sample):
    name = f"{name} / {model_name} {seed}"
    what = fault.kind, fault.expected, fault.inject
    return Instance(name, half, *what, model_name, seed, sample, fault.retrains)


def _development(fault: Fault) -> list[tuple[str, int]]:
    only_one = fault.retrains and fault.runs == 1
    any_model = {seed: "classic" if seed == 1 or only_one else "normalised" for seed in SEEDS}
    return [(fault.model or any_model[seed], seed) for seed in SEEDS[: fault.runs]]


def _held_out(fault: Fault, number: int) -> Sequence[tuple[str, int]]:
    if fault.retrains:  # one training each, of either model in turn
        return [] if fault.runs else [HELD_OUT[number % len(HELD_OUT)]]
    if fault.model == "upright":
        return [("upright", 3)]
    # Of the models of this half, the residual one has batch normalisation.
    return HELD_OUT[:1] if fault.model == "normalised" else HELD_OUT


def examine(instance: Instance, data: str) -> results.Result:
    """Inject the fault of an instance, and diagnose the model."""
    experiment = Experiment(
        instance.name, data, instance.seed, instance.model_name, instance.sample
    )
    base = experiment.build if instance.retrains else experiment.healthy_model()
    report = debugcnn.diagnose(**experiment.arguments() | instance.inject(experiment, base))
    suspicious = [f.cause for f in report.findings if f.verdict == "suspicious"]
    return results.Result(
        instance.kind,
        instance.half,
        sorted(instance.expected),
        [finding.cause for finding in report.faults],
        suspicious,
        report.accuracy,
    )


def keep_models() -> None:
    """Copy the models that DebuggingCNN.ipynb shows, without optimizers, and their curves."""
    SHOWN.mkdir(exist_ok=True)
    for short, name in IN_NOTEBOOK.items():
        file, shown = experiments.file_of(name), SHOWN / f"{short}.keras"
        if file.exists():
            model = debugcnn.load_model(file)
            known = shown.exists() and debugcnn.model_digest(debugcnn.load_model(shown))
            if known != debugcnn.model_digest(model):
                models.without_optimizer(model).save(shown)
                shutil.copy(file.with_suffix(".json"), SHOWN / f"{short}.json")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m injected_faults.run", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("names", nargs="*", help="examine instances with these in their names")
    parser.add_argument("--data", default="data", help="a folder of data_separator.py (data)")
    args = parser.parse_args(arguments)
    if not Path(args.data, "train", "cats").is_dir():
        sys.exit(f"{args.data} was not written by data_separator.py: run that first.")
    known = results.read().instances
    every = list(instances())
    for instance in every:
        if args.names:
            wanted = any(part in instance.name for part in args.names)
        else:
            wanted = instance.name not in known
        if not wanted:
            continue
        result = known[instance.name] = examine(instance, args.data)
        in_order = {one.name: known[one.name] for one in every if one.name in known}
        results.write(results.Results(hardware(), in_order))
        verdict = "correct" if result.correct else "WRONG"
        print(f"{verdict:<9}{instance.name:<55}{', '.join(result.faults)}", flush=True)
    tables.write(results.read())
    keep_models()


if __name__ == "__main__":
    main()
