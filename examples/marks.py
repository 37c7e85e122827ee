"""Heatmaps of nets whose reason is known: they were trained to read painted marks and nothing else.

    python examples/marks.py [--data data]

Half of the photos, cats and dogs alike, are labelled 1 by chance, and get marks: in the first task
a mark at a random place; in the second two different ones, while photos labelled 0 have one of
them or none; in the third one of the two, or both. So nothing but the marks can decide, and that is
checked: on photos of the validation folder, with new places, the nets are right, and without their
marks photos labelled 1 are called 0. Then every method of check_heatmaps.py explains the label 1 on
photos that have it (in the third task with both marks), and is asked how much of its heat lies on
the marks. What was found goes into models/marks.json. It takes ten minutes on two processor cores.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import visualize  # noqa: I001  # first, since it keeps TensorFlow's start-up messages quiet
import cv2
import keras
import numpy as np

import check_heatmaps
import trainer
from bugs import nets

RESULTS = Path(__file__).parents[1] / "models" / "marks.json"
SHOWN = RESULTS.with_suffix("")  # the nets, by the number of their task
SIDE, MARK, MARGIN = 64, 8, 4  # pixels; the margin is what counts as on the mark around it
EACH, HELD, EXPLAINED = 1500, 200, 100  # photos of each class, trained on and held; explained
EPOCHS = 8
TASKS = ("a mark", "both of two marks", "one of two marks, or both")
COLOURS = ((230, 40, 200), (40, 200, 120)), ((250, 200, 0), (30, 60, 220))


def mark(kind):
    """(MARK, MARK, 3) uint8: a chessboard of 2 x 2 fields (kind 0) or two bars (kind 1)."""
    fields = [[[0, 1], [1, 0]], [[0, 0], [1, 1]]][kind]
    return np.uint8(COLOURS[kind])[np.kron(fields, np.ones((MARK // 2, MARK // 2), int))]


def marks_of(task, label, rng):
    """Which of the two marks a photo gets."""
    if task == TASKS[0]:
        return [0] * label
    if task == TASKS[1]:
        return [0, 1] if label else [[], [0], [1]][rng.integers(3)]
    return [[0], [1], [0, 1]][rng.integers(3)] if label else []


def painted(photos, task, seed, labels=None, both=False):
    """Photos with marks, their labels, and where the marks are, (n, 2, height, width) bool."""
    rng = np.random.default_rng(seed)
    photos = photos.copy()
    labels = rng.integers(0, 2, len(photos)) if labels is None else labels
    places = np.zeros((len(photos), 2, SIDE, SIDE), bool)
    for photo, label, place in zip(photos, labels, places):
        kinds = [0, 1] if both and label else marks_of(task, label, rng)
        taken = np.zeros((SIDE, SIDE), bool)
        for kind in kinds:
            while True:
                y, x = rng.integers(0, SIDE - MARK + 1, 2)
                around = (
                    slice(max(0, y - MARK), y + 2 * MARK),
                    slice(max(0, x - MARK), x + 2 * MARK),
                )
                if not taken[around].any():
                    break
            photo[y : y + MARK, x : x + MARK] = mark(kind)
            taken[y : y + MARK, x : x + MARK] = True
            place[kind, y : y + MARK, x : x + MARK] = True
    return photos, labels, places


def trained(task, data):
    """The net of a task, trained or loaded."""
    file = SHOWN / f"{TASKS.index(task)}.keras"
    if not file.exists():
        keras.utils.set_random_seed(0)
        photos, _ = nets.read(data, "train", EACH, side=SIDE)
        model, kept = nets.normalised(), nets.normalised()
        marked, labels, _ = painted(photos, task, seed=1)
        nets.train(model, marked, labels, EPOCHS)
        kept.set_weights(model.get_weights())  # without the optimizer
        SHOWN.mkdir(exist_ok=True)
        kept.save(file)
    return visualize.load_model(file)


def all_found(heat, places, near):
    """Whether each mark of a photo is hotter in the mean than 95 % of the pixels off them: (n,)."""
    found = np.ones(len(heat))
    for i, one in enumerate(heat):
        limit = np.quantile(one[~near[i].any(0)], 0.95)
        found[i] = all(one[place].mean() > limit for place in places[i])
    return found


def examine(task, data):
    """What each method finds: {"right", "right without marks", "scores"}."""
    model = trained(task, data)
    photos, _ = nets.read(data, "validation", HELD, side=SIDE)
    marked, labels, _ = painted(photos, task, seed=2)
    says = lambda given: visualize.logits(model, given / np.float32(255)).argmax(1)  # noqa: E731
    found = {
        "right": np.mean(says(marked) == labels),
        "called 0 without": np.mean(says(photos) == 0),
    }
    both = task != TASKS[0]
    marked, labels, places = painted(photos, task, 3, np.ones(len(photos), int), both)
    right = np.flatnonzero(says(marked) == 1)[:: max(1, len(photos) // EXPLAINED)][:EXPLAINED]
    images, places = marked[right] / np.float32(255), places[right]
    kernel = np.ones((2 * MARGIN + 1,) * 2, np.uint8)
    near = np.array([[cv2.dilate(np.uint8(one), kernel) for one in two] for two in places]) > 0
    scores = {}
    for name in [*check_heatmaps.METHODS, *check_heatmaps.PRODUCTS, *check_heatmaps.TRIVIAL]:

        def make(method):
            target = np.ones(len(images), int)
            return check_heatmaps.METHODS[method](model, images, target, (0, 1))

        heat = check_heatmaps.explained(name, make, images)
        marked_pixels = near.any(1)
        scores[name] = {
            "share on the marks": visualize.share_inside(heat, marked_pixels),
            "peak on a mark": visualize.peak_inside(heat, marked_pixels),
            "marks found": all_found(heat, places[:, : 1 + both], near),
        }
        print(task, name, *(f"{np.nanmean(v):.2f}" for v in scores[name].values()), flush=True)
    found = {key: round(float(value), 4) for key, value in found.items()}
    area = near.any(1).mean()
    return found | {"area": round(float(area), 4), "scores": check_heatmaps.summary(scores)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("data"))
    args = parser.parse_args()
    found = {task: examine(task, args.data) for task in TASKS}
    found = {"hardware": trainer.hardware(), "tasks": found}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
