"""Heatmaps of nets whose reason is known: they were trained to read painted marks and nothing else.

    python examples/marks.py [--data data]

Half of the photos, cats and dogs alike, are labelled 1 by chance, and get marks: in the first task
a mark at a random place; in the second two different ones, while photos labelled 0 have one of
them or none; in the third one of the two, or both. So nothing but the marks can decide, and that is
checked: on photos of the validation folder, with new places, the nets are right, and without their
marks photos labelled 1 are called 0. Then every method of heatmap_comparison.py explains the label 1 on
photos that have it (in the third task with both marks), and is asked how much of its heat lies on
the marks. Two more nets learn marks of unlike worth: one adds WORTH[0] to the logit, the other half
of it, and here the label is the probability itself. Each mark is the stronger in one of them, and
asked is whether it is the hotter, too. What was found goes into models/marks.json. It takes fifteen
minutes on two processor cores.
"""

import argparse
import functools
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import debugcnn.quiet
import cv2
import keras
import numpy as np

from debugcnn import heatmap_comparison
from debugcnn import training
from injected_faults import nets

RESULTS = Path(__file__).parents[1] / "models" / "marks.json"
SHOWN = RESULTS.with_suffix("")  # the nets, by the number of their task
SIDE, MARK, MARGIN = 64, 8, 4  # pixels; the margin is what counts as on the mark around it
EACH, HELD, EXPLAINED = 1500, 200, 100  # photos of each class, trained on and held; explained
EPOCHS = 8
TASKS = ("a mark", "both of two marks", "one of two marks, or both")
WORTH, BASE = (4.0, 2.0), -3.0  # logits that the stronger mark adds, and the weaker; without marks
WORTH_SCORES = "stronger is hotter", "part of the stronger"
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


def paint(photo, kinds, rng):
    """Paint marks into a photo, apart from each other: where they are, (2, height, width) bool."""
    taken, place = np.zeros((SIDE, SIDE), bool), np.zeros((2, SIDE, SIDE), bool)
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
    return place


def painted(photos, task, seed, labels=None, both=False):
    """Photos with marks, their labels, and where the marks are, (n, 2, height, width) bool."""
    rng = np.random.default_rng(seed)
    photos = photos.copy()
    labels = rng.integers(0, 2, len(photos)) if labels is None else labels
    places = []
    for photo, label in zip(photos, labels):
        kinds = [0, 1] if both and label else marks_of(task, label, rng)
        places.append(paint(photo, kinds, rng))
    return photos, labels, np.array(places)


def weighed(photos, strong, seed, kinds=None):
    """Photos with some of the two marks (None: by chance), the logit that they are worth where mark
    `strong` is the stronger, and where they are.
    """
    rng = np.random.default_rng(seed)
    photos, logits, places = photos.copy(), [], []
    for photo in photos:
        some = np.flatnonzero(rng.integers(0, 2, 2)) if kinds is None else kinds
        logits.append(BASE + sum(WORTH[int(kind != strong)] for kind in some))
        places.append(paint(photo, some, rng))
    return photos, np.array(logits), np.array(places)


def probable(photos, strong):
    """Photos with marks and, as labels, the probabilities that they are worth."""
    marked, logits, _ = weighed(photos, strong, seed=1)
    return marked, 1 / (1 + np.exp(-logits))


def trained(number, data, make):
    """The net of a number, trained on what `make` paints, photos and labels, or loaded."""
    file = SHOWN / f"{number}.keras"
    if not file.exists():
        keras.utils.set_random_seed(0)
        photos, _ = nets.read(data, "train", EACH, side=SIDE)
        model, kept = nets.normalised(), nets.normalised()
        nets.train(model, *make(photos), EPOCHS)
        kept.set_weights(model.get_weights())  # without the optimizer
        SHOWN.mkdir(exist_ok=True)
        kept.save(file)
    return debugcnn.load_model(file)


def heatmaps(model, images):
    """(name, heatmaps for label 1) by every method, product and trivial map."""
    for name in [*heatmap_comparison.METHODS, *heatmap_comparison.PRODUCTS, *heatmap_comparison.TRIVIAL]:

        def make(method):
            target = np.ones(len(images), int)
            return heatmap_comparison.METHODS[method](model, images, target, (0, 1))

        yield name, heatmap_comparison.explained(name, make, images)


def around(places):
    """Places (n, 2, height, width) with a margin around each."""
    kernel = np.ones((2 * MARGIN + 1,) * 2, np.uint8)
    return np.array([[cv2.dilate(np.uint8(one), kernel) for one in two] for two in places]) > 0


def all_found(heat, places, near):
    """Whether each mark of a photo is hotter in the mean than 95 % of the pixels off them: (n,)."""
    found = np.ones(len(heat))
    for i, one in enumerate(heat):
        limit = np.quantile(one[~near[i].any(0)], 0.95)
        found[i] = all(one[place].mean() > limit for place in places[i])
    return found


def examine(task, data):
    """What each method finds: {"right", "right without marks", "scores"}."""
    model = trained(TASKS.index(task), data, lambda photos: painted(photos, task, seed=1)[:2])
    photos, _ = nets.read(data, "validation", HELD, side=SIDE)
    marked, labels, _ = painted(photos, task, seed=2)
    says = lambda given: debugcnn.logits(model, given / np.float32(255)).argmax(1)  # noqa: E731
    found = {
        "right": np.mean(says(marked) == labels),
        "called 0 without": np.mean(says(photos) == 0),
    }
    both = task != TASKS[0]
    marked, labels, places = painted(photos, task, 3, np.ones(len(photos), int), both)
    right = np.flatnonzero(says(marked) == 1)[:: max(1, len(photos) // EXPLAINED)][:EXPLAINED]
    images, places = marked[right] / np.float32(255), places[right]
    near, scores = around(places), {}
    marked_pixels = near.any(1)
    for name, heat in heatmaps(model, images):
        scores[name] = {
            "share on the marks": debugcnn.energy_pointing(heat, marked_pixels),
            "peak on a mark": debugcnn.pointing_game(heat, marked_pixels),
            "marks found": all_found(heat, places[:, : 1 + both], near),
        }
        print(task, name, *(f"{np.nanmean(v):.2f}" for v in scores[name].values()), flush=True)
    found = {key: round(float(value), 4) for key, value in found.items()}
    area = round(float(marked_pixels.mean()), 4)
    return found | {"area": area, "scores": heatmap_comparison.summary(scores)}


def examine_worth(data):
    """What each method finds where one mark is worth twice as much as the other, of both nets
    together: {"worth" (what painting adds to the logit: the stronger, the weaker), "scores"}.
    """
    photos, _ = nets.read(data, "validation", HELD, side=SIDE)
    photos = photos[:: max(1, len(photos) // EXPLAINED)][:EXPLAINED]
    added, scores = [], {}
    for strong in (0, 1):
        number = len(TASKS) + strong
        model = trained(number, data, functools.partial(probable, strong=strong))
        alone = [weighed(photos, strong, 3, [kind])[0] for kind in (strong, 1 - strong)]
        logits = [
            debugcnn.logits(model, given / np.float32(255))[:, 1] for given in (photos, *alone)
        ]
        added.append([given - logits[0] for given in logits[1:]])
        marked, _, places = weighed(photos, strong, 3, [0, 1])
        near = around(places)
        for name, heat in heatmaps(model, marked / np.float32(255)):
            heat = np.maximum(heat, 0)
            stronger, weaker = (
                (heat * near[:, kind]).sum((1, 2)) / near[:, kind].sum((1, 2))
                for kind in (strong, 1 - strong)
            )
            total = stronger + weaker
            part = np.divide(stronger, total, out=np.full(len(total), np.nan), where=total > 0)
            hotter = (stronger > weaker) + 0.5 * (stronger == weaker)
            of_name = scores.setdefault(name, {score: [] for score in WORTH_SCORES})
            for score, values in zip(WORTH_SCORES, (hotter, part)):
                of_name[score].append(values)
            print("worth", strong, name, f"{hotter.mean():.2f} {np.nanmean(part):.2f}", flush=True)
    # A row is a photo, in the two nets.
    scores = {n: {k: np.stack(v, 1) for k, v in one.items()} for n, one in scores.items()}
    worth = np.mean(added, (0, 2))
    return {
        "worth": [round(float(one), 2) for one in worth],
        "scores": heatmap_comparison.summary(scores),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("data"))
    args = parser.parse_args()
    found = {task: examine(task, args.data) for task in TASKS}
    worth = examine_worth(args.data)
    found = {"hardware": training.hardware(), "tasks": found, "worth": worth}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
