"""Validation accuracy over minutes of training: our net beside two that people start from.

A training can be stopped at any time, and goes on where it was last saved when it is started again.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from measure import peak_bytes, processor, save

SEED = 0
PARTS = 8  # of an epoch, after each of which a peer is saved
CLASSES = ["cats", "dogs"]
GOAL = 0.93  # validation accuracy
LABELS = {
    "ours": "our net, short schedule",
    "original": "the original tutorial's net",
    "xception": "the small Xception of the Keras documentation",
}
# The notebook's parameters for a training of a few minutes: small photos, little variation.
QUICK = {"STAGES": [[64, 6, 0.25], [96, 3, 0.35]], "ROUNDS": [[9, 5e-3]], "WARMUP": 0.08}


def original():
    """The net of the tutorial that this one grew from, photos as they are."""
    import keras

    from injected_faults import nets

    return nets.original(), keras.optimizers.RMSprop(0.001), None


def xception():
    """The small Xception of "Image classification from scratch" in the Keras documentation."""
    import keras
    from keras import layers

    def normalized(x):
        return layers.BatchNormalization()(x)

    photos = keras.Input((180, 180, 3))
    x = layers.Conv2D(128, 3, strides=2, padding="same")(layers.Rescaling(1 / 255)(photos))
    x = layers.ReLU()(normalized(x))
    for filters in (256, 512, 728):
        shortcut = layers.Conv2D(filters, 1, strides=2, padding="same")(x)
        for _ in range(2):
            x = layers.SeparableConv2D(filters, 3, padding="same")(layers.ReLU()(x))
            x = normalized(x)
        x = layers.Add()([layers.MaxPooling2D(3, strides=2, padding="same")(x), shortcut])
    x = layers.ReLU()(normalized(layers.SeparableConv2D(1024, 3, padding="same")(x)))
    x = layers.Dropout(0.25)(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(photos, layers.Dense(1, activation="sigmoid")(x))
    augment = keras.Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)])
    return model, keras.optimizers.Adam(3e-4), augment


# What is trained, photos in a batch, minutes of training between two validations.
PEERS = {"original": (original, 50, 5), "xception": (xception, 128, 5)}


def load(folder, side):
    """Photos (n, side, side, 3) uint8, resized as the peers do, and labels (n, 1) of one split."""
    import keras
    import numpy as np

    rows = keras.utils.image_dataset_from_directory(
        folder, class_names=CLASSES, image_size=(side, side), shuffle=False, verbose=False
    )
    photos = np.empty((len(rows.file_paths), side, side, 3), np.uint8)
    labels = np.empty((len(photos), 1), np.float32)
    done = 0
    for some, answers in rows:
        photos[done : done + len(some)] = np.rint(some)
        labels[done : done + len(some), 0] = answers
        done += len(some)
    return photos, labels


def read(file):
    """What was saved of a training; minutes of one processor are not those of another."""
    state = json.loads(file.read_text())
    if state.get("processor", processor()) != processor():
        sys.exit(
            f"{file.parent.name} was trained on {state['processor']}, and this is {processor()}: "
            f"delete benchmarks/work/{file.parent.name} to train it afresh."
        )
    return state


def train_peer(name, data, folder, minutes):
    """Train until the clock shows `minutes`; returns {curve: [[minutes, accuracy], ...], ...}.

    The clock counts loading (once, decoded, into memory) and for each part of an epoch the median
    time of all: no compiling, no pause of the machine, no validating, no saving. All that favours
    the peers. So does jit_compile=False: with XLA, the default of Keras, both took about twice the
    time on two cores.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    begin = time.perf_counter()
    build, batch, between = PEERS[name]
    keras.utils.set_random_seed(SEED)
    model, optimizer, augment = build()
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, "binary_crossentropy", metrics=["accuracy"], jit_compile=False)
    side = model.input_shape[1]
    photos, labels = load(Path(data, "train"), side)
    pictures, answers = tf.constant(photos), tf.constant(labels)
    validation = load(Path(data, "validation"), side)

    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer)
    manager = tf.train.CheckpointManager(checkpoint, folder, max_to_keep=2)
    file = folder / "state.json"
    state = {"parts": 0, "seconds": [], "loading": time.perf_counter() - begin, "validations": []}
    if file.exists():
        state |= read(file)
        checkpoint.restore(str(folder / state["checkpoint"])).assert_existing_objects_matched()

    def clock(parts):
        return (state["loading"] + parts * median(state["seconds"] or [0])) / 60

    def part(rows):
        some = tf.gather(pictures, rows)
        if augment:
            some = augment(tf.cast(some, tf.float32), training=True)
        return some, tf.gather(answers, rows)

    # With autotune, tf.data waits for up to a minute when it ends (tensorflow 2.21).
    options = tf.data.Options()
    options.autotune.enabled = False
    steps = len(photos) // batch
    while clock(state["parts"]) < minutes:
        epoch, k = divmod(state["parts"], PARTS)
        order = np.random.default_rng([SEED, epoch]).permutation(len(photos))
        rows = np.array_split(order[: steps * batch].reshape(steps, batch), PARTS)[k]
        rows = tf.data.Dataset.from_tensor_slices(rows).map(part, 2).prefetch(2)
        begin = time.perf_counter()
        done = model.fit(rows.with_options(options), verbose=0, shuffle=False).history
        state["seconds"].append(time.perf_counter() - begin)
        state["parts"] += 1
        now = clock(state["parts"])
        print(
            f"{name} {now:5.1f} min  epoch {state['parts'] / PARTS:5.2f}  "
            f"accuracy {done['accuracy'][0]:.3f}  loss {done['loss'][0]:.3f}",
            flush=True,
        )
        last = state["validations"][-1][0] if state["validations"] else 0
        if now >= minutes or now - clock(last) >= between:
            _, accuracy = model.evaluate(*validation, batch_size=128, verbose=0)
            state["validations"].append([state["parts"], round(accuracy, 4)])
            print(f"{name} {now:5.1f} min  validation accuracy {accuracy:.4f}", flush=True)
        state["curve"] = [[round(clock(parts), 2), a] for parts, a in state["validations"]]
        state["epochs"] = state["parts"] / PARTS
        state["processor"] = processor()
        state["peak_bytes"] = max(peak_bytes(), state.get("peak_bytes", 0))
        state["checkpoint"] = Path(manager.save()).name
        save(file, state)
    return state


def train_ours(data, folder):
    """Run the notebook's cells with QUICK; the clock counts all that happens after its line
    "Training on ...": decoding, compiling, training, validating and saving.
    """
    import cells

    file, models = folder / "state.json", folder / "models"
    folder.mkdir(parents=True, exist_ok=True)
    state = read(file) if file.exists() else {"curve": []}
    given = QUICK | {"DATA": str(data), "MODELS": str(models), "EVERY": 1}
    program = folder / "cells.py"
    program.write_text(cells.training(given))
    environment = os.environ | {
        "PYTHONPATH": str(cells.NOTEBOOK.parent),
        "PYTHONUNBUFFERED": "1",
        "MPLBACKEND": "agg",
    }
    process = subprocess.Popen(
        [sys.executable, program], env=environment, stdout=subprocess.PIPE, text=True
    )
    earlier, begin = (state["curve"][-1][0] if state["curve"] else 0), None
    for line in process.stdout:
        if line.startswith("Training on"):
            begin = time.perf_counter()
        epoch = re.match(r"epoch +(\d+) .*validation: accuracy ([\d.]+)", line)
        if epoch and int(epoch[1]) > len(state["curve"]):
            minutes = earlier + (time.perf_counter() - begin) / 60
            state["curve"].append([round(minutes, 2), float(epoch[2])])
            state["epochs"], state["processor"] = int(epoch[1]), processor()
            save(file, state)
            print(f"ours {minutes:5.1f} min  {line}", end="", flush=True)
    if process.wait():
        raise RuntimeError(f"The notebook's cells failed: run {program} to see how.")
    state["peak_bytes"] = max(peak_bytes(), state.get("peak_bytes", 0))
    save(file, state)
    return state


def reached(curve, goal=GOAL):
    """Minutes from which on every validation reaches the goal, or None."""
    below = [i for i, (_, accuracy) in enumerate(curve) if accuracy < goal]
    after = curve[below[-1] + 1 :] if below else curve
    return after[0][0] if after else None


def run(data, folder, minutes):
    """Train all three in turn, each in a process of its own, and return what was measured."""
    for name in LABELS:
        command = [sys.executable, __file__, name, data, folder / name, minutes]
        subprocess.run([str(part) for part in command], check=True)
    return measured(folder)


def measured(folder):
    """What the trainings in `folder` have come to."""
    nets = {}
    for name in LABELS:
        if (folder / name / "state.json").exists():
            net = read(folder / name / "state.json")
            kept = {key: net[key] for key in ("curve", "epochs", "peak_bytes")}
            if "seconds" in net:  # a peer's clock rests on those of its parts that were timed
                kept |= {"parts": net["parts"], "timed_parts": len(net["seconds"])}
            minutes, goal = net["curve"][-1][0], reached(net["curve"])
            nets[name] = kept | {"minutes": minutes, "minutes_to_goal": goal}
    return {"goal": GOAL, "seed": SEED, "quick": QUICK, "nets": nets}


def draw(results, history, figure):
    """The curves of our net and the original, and that of the published training, whose epochs are
    `history`.
    """
    import matplotlib.pyplot as plt
    import numpy as np

    plt.figure(figsize=(8, 3.6), layout="compressed")
    long = np.cumsum([line["seconds"] for line in history]) / 60
    accuracy = [line["val_accuracy"] for line in history]
    plt.plot(
        long, accuracy, color="tab:blue", alpha=0.4, label="our net, as published (epochs alone)"
    )
    shown = {name: net for name, net in results["nets"].items() if name != "xception"}
    for (name, net), colour in zip(shown.items(), ("tab:blue", "tab:orange")):
        minutes, accuracy = zip(*net["curve"])
        plt.plot(minutes, accuracy, "o-", markersize=3, color=colour, label=LABELS[name])
    plt.axhline(results["goal"], color="grey", linewidth=0.8, linestyle="--")
    plt.text(0.3, results["goal"], f"{results['goal']:.0%}", va="bottom", color="grey")
    plt.xlabel("minutes of training")
    plt.ylabel("validation accuracy")
    plt.axis([0, max(net["minutes"] for net in shown.values()), 0.48, 1])
    plt.legend()
    plt.savefig(figure, dpi=100)
    plt.close()


if __name__ == "__main__":
    _, which, *rest = sys.argv
    photos, place = (Path(part) for part in rest[:2])
    if which == "ours":
        train_ours(photos, place)
    else:
        train_peer(which, photos, place, float(rest[2]))
