"""Plant every fault of `faults.py`, examine it, and count what `diagnose.py` says.

    python injected_faults/run.py [NAME ...] [--data data] [--peers]

`--data` is a result of data_separator.py. Nets are trained on photos of its train split, and
examined on photos of its validation split; the test split is not touched. Nets are kept in
injected_faults/work, and what was found in injected_faults/results.json, so that a run that was stopped goes on. It takes
about two hours on two processor cores. `--peers` asks what people would use instead, too, about the
development half; it needs injected_faults/requirements.txt. Those that are named are examined again: " / " is
in all names.
"""

import argparse
import json
import os
import platform
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import debugcnn.quiet
import keras
import numpy as np

import diagnose
from injected_faults import faults, nets, peers, tables

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
WORK = HERE / "work"
SHOWN = HERE / "models"
MODELS = {
    "upright": HERE.parent / "models" / "upright.keras",
    "shapes": HERE.parent / "examples" / "shapes.keras",
}
EACH, EXAMINED = 2500, 250  # photos of each class, trained on and examined
BUILDS = {  # and how many epochs a sound net is trained
    "normalised": (nets.normalised, 8),
    "classic": (nets.classic, 10),
    "residual": (nets.residual, 10),
    "digits": (nets.ten_digits, 30),
}
KEPT = {  # nets that DebuggingCNN.ipynb shows
    "sound": "sound / normalised 0",
    "marked": "a mark on all dogs / normalised 0",
    "one_unit": "softmax on a single unit / normalised 0",
    "by_heart": "200 photos, by heart / classic 0",
}
SEEDS = (0, 1)  # of the half on which limits were set
DEVELOPED = (
    ("normalised", 0),
    ("classic", 1),
    ("upright", 0),
    ("digits", 0),
)  # sound nets of that half
HELD_OUT = (("residual", 3), ("classic", 4))  # of the other half


class Bench:
    """The photos of an instance, and how its nets are trained. `which` photos of each class are
    examined: how many, after how many others.
    """

    def __init__(self, name, data, seed, net, sample=0):
        self.name, self.data, self.seed, self.net = name, data, seed, net
        self.build, self.epochs = BUILDS.get(net, (None, None))
        self.which = (EXAMINED // 2 if net == "upright" else EXAMINED), 0
        self.which = self.which[0], sample * self.which[0]
        self.train, (self.photos, self.labels) = self._read(data, seed * EACH)
        self.photos = np.float32(self.photos)
        self.value_range = (0, 255) if net == "upright" else (0, 1)
        self.curve = None

    def _read(self, data, first):
        count, skip = self.which
        if self.net == "shapes":
            return nets.drawn("training", 500), nets.drawn("held out", 2 * count, 2 * skip)
        if self.net == "digits":
            return nets.digits(1000), nets.digits(398, 1000 + 398 * (skip // count % 2))
        side = 176 if self.net == "upright" else nets.SIDE
        each = 50 if self.net == "upright" else EACH
        train = nets.read(data, "train", each, first % 7500, side)
        examined = nets.read(data, "validation", count, skip, side)
        return train, examined

    def large(self):
        """The examined photos (n, 180, 180, 3) as they are in the files."""
        return nets.read(self.data, "validation", *self.which, 180)[0]

    def fit(self, build, photos, labels, epochs=None, held=None, name=None, **options):
        """A net that is trained, or was: its file and its curve lie in injected_faults/work."""
        file = file_of(name or self.name)
        if not file.exists():
            keras.utils.set_random_seed(self.seed)
            net = build()
            held = self.photos if held is None else np.float32(held[0])
            held = debugcnn.from_pixels(held, self.value_range), self.labels
            epochs = self.epochs if epochs is None else epochs
            options |= {"scale": 255 / self.value_range[1], "seed": self.seed, "held": held}
            curve = nets.train(net, photos, labels, epochs, **options) if epochs else None
            WORK.mkdir(exist_ok=True)
            file.with_suffix(".json").write_text(json.dumps(curve))
            net.save(file.with_suffix(".partial.keras"))
            os.replace(file.with_suffix(".partial.keras"), file)
        self.curve = json.loads(file.with_suffix(".json").read_text())
        return debugcnn.load_model(file)

    def sound(self):
        """The sound net of this kind and seed, trained or loaded."""
        if self.net in MODELS:
            return debugcnn.load_model(MODELS[self.net])
        return self.fit(self.build, *self.train, name=f"sound / {self.net} {self.seed}")


def examined(bench, given):
    """What diagnose finds, in short."""
    report = diagnose.diagnose(
        given["model"],
        given.get("photos", bench.photos),
        given.get("labels", bench.labels),
        train=given.get("train"),
        value_range=given.get("value_range", bench.value_range),
        ways=given.get("ways"),
    )
    named = [f.cause for f in report["findings"] if f.verdict == "fault"]
    hints = [f.cause for f in report["findings"] if f.verdict == "suspicious"]
    return {"named": named, "suspicious": hints, "accuracy": report["accuracy"]}


def asked_of_peers(bench, given):
    """What the peers say, in short: {tool: [[rule, [cause, ...]], ...]}."""
    photos = given.get("photos", bench.photos)
    value_range = given.get("value_range", bench.value_range)
    train = given.get("train")
    said = peers.says(
        given["model"],
        debugcnn.from_pixels(photos, value_range),
        photos,
        given.get("labels", bench.labels),
        train=train,
        train_images=train and debugcnn.from_pixels(np.float32(train[0]), bench.value_range),
        curve=bench.curve,
    )
    return {
        tool: [[one["rule"], sorted(one["causes"])] for one in rules]
        for tool, rules in said.items()
    }


def instances():
    """(name, half, kind, right answers, plant, net, seed, sample) of all faults and sound nets."""
    for i, (fault, (kind, causes, plant, count)) in enumerate(faults.FAULTS.items()):
        upright = kind == "upright" or causes == {"label_noise"}
        for seed in SEEDS[:count]:
            net = "classic" if seed == 1 or (trains(kind, plant) and count == 1) else "normalised"
            net = "upright" if upright else "normalised" if kind == "statistics" else net
            yield f"{fault} / {net} {seed}", "development", kind, causes, plant, net, seed, 0
        held = [("upright", 3)] if upright else HELD_OUT
        held = [(net, seed) for net, seed in held if kind != "statistics" or net != "classic"]
        if trains(kind, plant):
            held = [] if count else [held[i % len(held)]]
        for net, seed in held:
            sample = 2 if not upright else seed
            yield f"{fault} / {net} {seed}", "held out", kind, causes, plant, net, seed, sample
    sound = [(net, seed, "development", (0, 1)) for net, seed in DEVELOPED]
    sound += [("upright", 0, "held out", (2, 3))]
    sound += [(net, seed, "held out", (2, 3)) for net, seed in HELD_OUT]
    sound += [("shapes", 0, "held out", (0, 1))]
    for net, seed, half, samples in sound:
        for sample in samples:
            name = f"sound / {net} {seed}, sample {sample}"
            yield name, half, "sound", set(), nothing, net, seed, sample


def nothing(bench, net):
    """Nothing is wrong; a fifth of the photos that it was trained on is given, too."""
    return dict(model=net, train=tuple(part[::5] for part in bench.train))


def trains(kind, plant):
    """Whether a fault is planted by training, and so given what builds a net."""
    return kind == "trained" or plant.__qualname__.startswith("cue")


def file_of(name):
    return WORK / f"{name}.keras".replace(" / ", ", ").replace(" ", "_")


def keep():
    """Copy the nets that are shown, without their optimizers, and their curves."""
    SHOWN.mkdir(exist_ok=True)
    for short, name in KEPT.items():
        file, shown = file_of(name), SHOWN / f"{short}.keras"
        if file.exists():
            net = debugcnn.load_model(file)
            known = shown.exists() and debugcnn.model_digest(debugcnn.load_model(shown))
            if known == debugcnn.model_digest(net):
                continue
            alone = keras.models.clone_model(net)
            alone.set_weights(net.get_weights())
            alone.save(shown)
            shutil.copy(file.with_suffix(".json"), SHOWN / f"{short}.json")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="faults whose names hold one of these")
    parser.add_argument("--data", default="data", help="a result of data_separator.py (data)")
    parser.add_argument("--peers", action="store_true", help="ask cleanlab and others, too")
    args = parser.parse_args(arguments)
    if not Path(args.data, "train", "cats").is_dir():
        sys.exit(f"{args.data} is no result of data_separator.py: run that first.")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"instances": {}}
    for name, half, kind, causes, plant, net, seed, sample in instances():
        found = dict(results["instances"].get(name, {}))
        if args.names:
            if not any(part in name for part in args.names):
                continue
            found.pop("named", None)  # examined again
        asked = args.peers and half == "development"
        if "named" in found and ("peers" in found or not asked):
            continue
        bench = Bench(name, args.data, seed, net, sample)
        given = plant(bench, bench.build if trains(kind, plant) else bench.sound())
        if "named" not in found:
            found |= examined(bench, given)
        if asked:
            found["peers"] = asked_of_peers(bench, given)
        found |= {"half": half, "kind": kind, "right": sorted(causes), "seed": seed, "net": net}
        known = results["instances"] | {name: found}
        results["instances"] = {each: known[each] for each, *_ in instances() if each in known}
        right = "right" if tables.first_right(found) else "WRONG"
        print(f"{right:<7}{name:<55}{', '.join(found['named'])}", flush=True)
        results["machine"] = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
        partial = RESULTS.with_suffix(".partial")
        partial.write_text(json.dumps(results, indent=1) + "\n")
        os.replace(partial, RESULTS)
    tables.write(results)
    keep()


if __name__ == "__main__":
    main()
