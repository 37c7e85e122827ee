"""Plant every fault of `faults.py`, examine it, and count what `diagnose.py` says.

    python bugs/run.py [NAME ...] [--data data]

`--data` is a result of data_separator.py. Nets are trained on photos of its train split, and
examined on photos of its validation split; the test split is not touched. What is done is kept in
bugs/work and bugs/results.json, so that a run that was stopped goes on. It takes about an hour on
two processor cores.
"""

import argparse
import json
import os
import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import visualize  # noqa: E402, I001  # first, since it keeps TensorFlow's start-up messages quiet
import keras
import numpy as np

import diagnose
from bugs import faults, nets

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
PAGE = HERE / "README.md"
BEGIN, END = "<!-- written by bugs/run.py -->", "<!-- end of what it wrote -->"
EACH, EXAMINED = 2500, 250  # photos of each class, trained on and examined
SOUND = {"normalised": (nets.normalised, 8), "classic": (nets.classic, 10)}
SEEDS = (0, 1, 2)
SHIPPED = HERE.parent / "models" / "cats_vs_dogs.keras"


class Bench:
    """The photos, and how often and how long to train."""

    def __init__(self, data, seed, net, sample=0):
        shipped = net == "shipped"
        self.seed, self.epochs = seed, None if shipped else SOUND[net][1]
        side = visualize.image_shape(visualize.load_model(SHIPPED))[0] if shipped else nets.SIDE
        self.train = nets.read(data, "train", 50 if shipped else EACH, seed * EACH, side)
        examined = EXAMINED // 2 if shipped else EXAMINED
        self.photos, self.labels = nets.read(data, "validation", examined, sample * examined, side)
        self.photos = np.float32(self.photos)
        self.value_range = (0, 255) if shipped else (0, 1)


def sound_net(bench, name, seed):
    """A sound net, trained or loaded."""
    if name == "shipped":
        return visualize.load_model(SHIPPED)
    file = HERE / "work" / f"{name}-{seed}.keras"
    if not file.exists():
        build, epochs = SOUND[name]
        keras.utils.set_random_seed(seed)
        net = nets.train(build(), *bench.train, epochs, seed=seed)
        file.parent.mkdir(exist_ok=True)
        net.save(file.with_suffix(".partial.keras"))
        os.replace(file.with_suffix(".partial.keras"), file)
    return visualize.load_model(file)


def examined(bench, given):
    """What diagnose finds, in short."""
    given = {"photos": bench.photos, "labels": bench.labels} | given
    given = {"value_range": bench.value_range} | given
    given["photos_"] = given.pop("photos")
    report = diagnose.diagnose(**given)
    named = [f.cause for f in report["findings"] if f.verdict == "fault"]
    hints = [f.cause for f in report["findings"] if f.verdict == "suspicious"]
    return {"named": named, "suspicious": hints, "accuracy": report["accuracy"]}


def instances():
    """(name, kind, right answers, plant, net, seed), the faults and then the sound nets."""
    for name, (kind, causes, plant, count) in faults.FAULTS.items():
        for seed in SEEDS[:count]:
            net = "classic" if seed == 1 and kind != "statistics" else "normalised"
            net = "shipped" if causes == {"label_noise"} else net
            yield f"{name} / {net} {seed}", kind, causes, plant, net, seed
    for net in (*SOUND, "shipped"):
        for seed in SEEDS if net in SOUND else [0]:
            for sample in range(2):
                name = f"sound / {net} {seed}, sample {sample}"
                yield (
                    name,
                    "sound",
                    set(),
                    lambda bench, n: dict(model=n, train=bench.train),
                    net,
                    seed,
                )


def first_right(found):
    """Whether the first cause that is named is a right answer; of a sound net, that none is."""
    first = found["named"][:1]
    return first[0] in found["right"] if found["right"] and first else not (found["right"] or first)


def summary(results):
    """Markdown: how often each fault is named first, and what is said of sound nets."""
    groups = {}
    for name, found in results["instances"].items():
        groups.setdefault((found["kind"], name.split(" / ")[0]), []).append(found)
    head = "| planted | how | named first | right answers | what was named instead |"
    lines = [head, "|---|---|---|---|---|"]
    for (kind, name), group in groups.items():
        right = sum(map(first_right, group))
        others = {found["named"][0] if found["named"] else "nothing" for found in group}
        others = ", ".join(sorted(others - set(group[0]["right"]))) if right < len(group) else ""
        answers = ", ".join(group[0]["right"]) or "nothing"
        lines.append(f"| {name} | {kind} | {right} of {len(group)} | {answers} | {others} |")
    return "\n".join(lines)


def totals(results):
    """(planted at full strength, of them right, examinations of sound nets, alarms in them)."""
    found = results["instances"].values()
    full = [one for one in found if one["kind"] not in ("weaker", "sound")]
    sound = [one for one in found if one["kind"] == "sound"]
    return (
        *(len(full), sum(map(first_right, full))),
        *(len(sound), sum(bool(one["named"]) for one in sound)),
    )


def write_page(results):
    """Put the table into bugs/README.md."""
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    planted, right, sound, alarms = totals(results)
    words = (
        f"Of {planted} faults planted at full strength, {right} get a right answer first. "
        f"Of {sound} examinations of sound nets, {alarms} raise an alarm. Measured on "
        f"{results['machine']}.\n"
    )
    PAGE.write_text(f"{before}{BEGIN}\n{words}\n{summary(results)}\n{END}{after}")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="faults whose names hold one of these")
    parser.add_argument("--data", default="data", help="a result of data_separator.py (data)")
    args = parser.parse_args(arguments)
    if not Path(args.data, "train", "cats").is_dir():
        sys.exit(f"{args.data} is no result of data_separator.py: run that first.")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"instances": {}}
    for name, kind, causes, plant, net, seed in instances():
        wanted = not args.names or any(part in name for part in args.names)
        if not wanted or (name in results["instances"] and not args.names):
            continue
        sample = int(name[-1]) if kind == "sound" else 0
        bench = Bench(args.data, seed, net, sample)
        trains = kind == "trained" or plant.__qualname__.startswith("cue")
        base = SOUND[net][0] if trains else sound_net(bench, net, seed)
        found = examined(bench, plant(bench, base))
        found |= {"kind": kind, "right": sorted(causes), "seed": seed, "net": net}
        results["instances"][name] = found
        print(
            f"{'right' if first_right(found) else 'WRONG':<7}{name:<55}{', '.join(found['named'])}",
            flush=True,
        )
        results["machine"] = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
        partial = RESULTS.with_suffix(".partial")
        partial.write_text(json.dumps(results, indent=1) + "\n")
        os.replace(partial, RESULTS)
    write_page(results)


if __name__ == "__main__":
    main()
