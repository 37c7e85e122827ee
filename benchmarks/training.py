"""Validation accuracy over minutes of training: our model beside the one of the original tutorial.

    python -m benchmarks.training ours|original DATA FOLDER MINUTES

trains one of them, and writes its curve to FOLDER/curve.json.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from debugcnn.files.compact_json import write_json

from .timing import peak_bytes

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "CatsVsDogs.ipynb"
SEED = 0
CLASSES = ["cats", "dogs"]
GOAL = 0.93  # validation accuracy
LABELS = {"ours": "our model, short schedule", "original": "the model of the original tutorial"}
# The notebook's parameters for a training of a few minutes: small images, little augmentation.
QUICK = {"STAGES": [[64, 6, 0.25], [96, 3, 0.35]], "ROUNDS": [[9, 5e-3]], "WARMUP": 0.08}

Curve = list[list[float]]  # [minutes, validation accuracy] of each validation


def program(parameters: dict[str, Any]) -> str:
    """The code cells of the notebook up to the one that trains, with other `parameters`."""
    sources = []
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        if cell["cell_type"] != "code":
            continue
        source = "".join(cell["source"])
        sources.append(source)
        if "parameters" in cell["metadata"].get("tags", []):
            sources += [f"{name} = {value!r}" for name, value in parameters.items()]
        if source.startswith("history = train("):
            return "\n\n".join(sources)
    raise ValueError(f"No cell of {NOTEBOOK.name} trains.")


def train_ours(data: Path, folder: Path) -> None:
    """Run the notebook's cells with QUICK.

    The clock counts all that happens after the line "Training on ...": decoding, compiling,
    training, validating and saving.
    """
    parameters = QUICK | {"DATA": str(data), "MODELS": str(folder / "models"), "EVERY": 1}
    file = folder / "cells.py"
    file.write_text(program(parameters))
    environment = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "MPLBACKEND": "agg"}
    process = subprocess.Popen(
        [sys.executable, file], env=os.environ | environment, stdout=subprocess.PIPE, text=True
    )
    curve, begin = [], 0.0
    for line in process.stdout:
        if line.startswith("Training on"):
            begin = time.perf_counter()
        if epoch := re.match(r"epoch +\d+ .*validation: accuracy ([\d.]+)", line):
            curve.append([round((time.perf_counter() - begin) / 60, 2), float(epoch[1])])
            print(f"ours {curve[-1][0]:5.1f} min  {line}", end="", flush=True)
    if process.wait():
        raise RuntimeError(f"The notebook's cells failed: run {file} to see how.")
    save(folder, curve, len(curve))


def load(folder: Path, side: int) -> tuple[Any, Any]:
    """Images (n, side, side, 3) uint8 of one split, resized as Keras does, and labels (n, 1)."""
    import keras
    import numpy as np

    batches = keras.utils.image_dataset_from_directory(
        folder, class_names=CLASSES, image_size=(side, side), shuffle=False, verbose=False
    )
    images = [np.uint8(np.rint(images)) for images, _ in batches]
    labels = [np.float32(labels) for _, labels in batches]
    return np.concatenate(images), np.concatenate(labels)[:, None]


def train_original(data: Path, folder: Path, minutes: float) -> None:
    """Train the model of the original tutorial as its author does, until the clock shows `minutes`.

    The clock counts loading (once, into memory) and training, and stands still while the model is
    validated, about every epoch. jit_compile=False favours it: with XLA, the default of Keras, it
    took about twice the time on two cores.
    """
    import keras

    from injected_faults.models import original

    begin = time.perf_counter()
    keras.utils.set_random_seed(SEED)
    model = original()
    options = dict(metrics=["accuracy"], jit_compile=False)
    model.compile(keras.optimizers.RMSprop(0.001), "binary_crossentropy", **options)
    side = model.input_shape[1]
    images, labels = load(data / "train", side)
    seconds = time.perf_counter() - begin
    validation = load(data / "validation", side)
    curve = []
    while seconds < 60 * minutes:
        begin = time.perf_counter()
        model.fit(images, labels, batch_size=50, verbose=0)
        seconds += time.perf_counter() - begin
        _, accuracy = model.evaluate(*validation, batch_size=128, verbose=0)
        curve.append([round(seconds / 60, 2), round(accuracy, 4)])
        print(f"original {seconds / 60:5.1f} min  accuracy {accuracy:.4f}", flush=True)
    save(folder, curve, len(curve))


def save(folder: Path, curve: Curve, epochs: int) -> None:
    """Write what a training came to."""
    write_json(folder / "curve.json", dict(curve=curve, epochs=epochs, peak_bytes=peak_bytes()))


def reached(curve: Curve, goal: float = GOAL) -> float | None:
    """Minutes from which on every validation reaches the goal, or None."""
    below = [i for i, (_, accuracy) in enumerate(curve) if accuracy < goal]
    after = curve[below[-1] + 1 :] if below else curve
    return after[0][0] if after else None


def run(data: Path, work: Path, minutes: float) -> dict[str, Any]:
    """Train both in turn, each in a process of its own, and return what was measured."""
    models = {}
    for name in LABELS:
        folder = work / name
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", __name__, name, data, folder, minutes]
        subprocess.run([str(part) for part in command], check=True, cwd=ROOT)
        models[name] = json.loads((folder / "curve.json").read_text())
    return {"goal": GOAL, "seed": SEED, "quick": QUICK, "models": models}


def draw(results: dict[str, Any], history: list[dict[str, Any]], figure: Path) -> None:
    """The curves of both models, and that of the published training, whose epochs are `history`."""
    import matplotlib.pyplot as plt
    import numpy as np

    plt.figure(figsize=(8, 3.6), layout="compressed")
    minutes = np.cumsum([epoch["seconds"] for epoch in history]) / 60
    accuracy = [epoch["val_accuracy"] for epoch in history]
    label = "our model, as published (without pauses between epochs)"
    plt.plot(minutes, accuracy, color="tab:blue", alpha=0.4, label=label)
    for (name, model), colour in zip(results["models"].items(), ("tab:blue", "tab:orange")):
        minutes, accuracy = zip(*model["curve"])
        plt.plot(minutes, accuracy, "o-", markersize=3, color=colour, label=LABELS[name])
    plt.axhline(results["goal"], color="grey", linewidth=0.8, linestyle="--")
    plt.text(0.3, results["goal"], f"{results['goal']:.0%}", va="bottom", color="grey")
    plt.xlabel("minutes of training")
    plt.ylabel("validation accuracy")
    longest = max(model["curve"][-1][0] for model in results["models"].values())
    plt.axis([0, longest, 0.48, 1])
    plt.legend()
    plt.savefig(figure, dpi=100)
    plt.close()


def main(arguments: Sequence[str]) -> None:
    name, data, folder, minutes = arguments
    if name == "ours":
        train_ours(Path(data), Path(folder))
    else:
        train_original(Path(data), Path(folder), float(minutes))


if __name__ == "__main__":
    main(sys.argv[1:])
