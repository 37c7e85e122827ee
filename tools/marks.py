"""Heatmaps of models whose evidence is known: they were trained to read painted marks only.

    python -m tools.marks [--data data]

The labels of photos of cats and dogs are drawn by chance, and the photos get marks: in the first
task those labelled 1 get a mark at a random position; in the second two different ones, while those
labelled 0 have one of them or none; in the third one of the two, or both. So nothing but the marks
can decide, which is checked: on photos of the validation folder, with new positions, the models
predict the labels, and without their marks photos labelled 1 are predicted as 0. Then every heatmap
method explains class 1 on photos of that class (in the third task with both marks), and it is
measured how much of the heatmap lies on the marks. Two more models learn marks of unequal weight:
one adds MARK_LOGITS[0] to the logit, the other half as much, and here the label is the probability
itself. Each mark is the stronger one in one of the models, and it is measured whether its heatmap
values are higher, too. The results go to models/marks.json. It takes fifteen minutes on two
processor cores.
"""

import argparse
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np

import debugcnn
from debugcnn.files.compact_json import write_json
from debugcnn.hardware import hardware
from debugcnn.heatmap_comparison.report import summary
from injected_faults.datasets import SIDE, cats_and_dogs
from injected_faults.models import normalised, train, without_optimizer

RESULTS = Path(__file__).parents[1] / "models" / "marks.json"
JSON_DEPTH = 4  # a line for each method
MODELS = RESULTS.with_suffix("")  # the models, by the number of their task
MARK, MARGIN = 8, 4  # pixels; within the margin around a mark a pixel still counts as on it
# Photos of each class to train on, photos of each class to validate on, and photos explained.
TRAINED, VALIDATED, EXPLAINED = 1500, 200, 100
EPOCHS = 8
TASKS = ("a mark", "both of two marks", "one of two marks, or both")
# Logits that the stronger and the weaker mark add to that of a photo without marks.
MARK_LOGITS, BASE_LOGIT = (4.0, 2.0), -3.0
COLOURS = ((230, 40, 200), (40, 200, 120)), ((250, 200, 0), (30, 60, 220))
UNEQUAL_SCORES = "stronger is hotter", "part of the stronger"


def mark(kind: int) -> np.ndarray:
    """(MARK, MARK, 3) uint8: a chessboard of 2 x 2 squares (kind 0) or two bars (kind 1)."""
    squares = [[[0, 1], [1, 0]], [[0, 0], [1, 1]]][kind]
    return np.uint8(COLOURS[kind])[np.kron(squares, np.ones((MARK // 2, MARK // 2), int))]


def marks_of(task: str, label: int, rng: np.random.Generator) -> list[int]:
    """Which of the two marks a photo gets."""
    if task == TASKS[0]:
        return [0] * label
    if task == TASKS[1]:
        return [0, 1] if label else [[], [0], [1]][rng.integers(3)]
    return [[0], [1], [0, 1]][rng.integers(3)] if label else []


def paint(photo: np.ndarray, kinds: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Paint marks into a photo (SIDE, SIDE, 3) at random positions, apart from each other.

    Returns where each of the two marks is: (2, SIDE, SIDE) bool.
    """
    occupied, positions = np.zeros((SIDE, SIDE), bool), np.zeros((2, SIDE, SIDE), bool)
    for kind in kinds:
        while True:
            y, x = rng.integers(0, SIDE - MARK + 1, 2)
            neighbourhood = (
                slice(max(0, y - MARK), y + 2 * MARK),
                slice(max(0, x - MARK), x + 2 * MARK),
            )
            if not occupied[neighbourhood].any():
                break
        square = slice(y, y + MARK), slice(x, x + MARK)
        photo[square] = mark(kind)
        occupied[square] = True
        positions[kind][square] = True
    return positions


def painted(
    photos: np.ndarray,
    task: str,
    seed: int,
    labels: np.ndarray | None = None,
    both: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Photos (n, SIDE, SIDE, 3) with marks, their labels (n,), and where the marks are,
    (n, 2, SIDE, SIDE) bool. Labels are drawn by chance if they are None; with `both`, each photo
    labelled 1 gets both marks.
    """
    rng = np.random.default_rng(seed)
    photos = photos.copy()
    labels = rng.integers(0, 2, len(photos)) if labels is None else labels
    positions = []
    for photo, label in zip(photos, labels):
        kinds = [0, 1] if both and label else marks_of(task, label, rng)
        positions.append(paint(photo, kinds, rng))
    return photos, labels, np.array(positions)


def painted_unequal(
    photos: np.ndarray, strong: int, seed: int, kinds: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Photos with some of the two marks (`kinds`; None: by chance), the logit that a model should
    return for them where mark `strong` is the stronger one, and where the marks are.
    """
    rng = np.random.default_rng(seed)
    photos, logits, positions = photos.copy(), [], []
    for photo in photos:
        drawn = np.flatnonzero(rng.integers(0, 2, 2)) if kinds is None else kinds
        logits.append(BASE_LOGIT + sum(MARK_LOGITS[int(kind != strong)] for kind in drawn))
        positions.append(paint(photo, drawn, rng))
    return photos, np.array(logits), np.array(positions)


def soft_labelled(photos: np.ndarray, strong: int) -> tuple[np.ndarray, np.ndarray]:
    """Photos with marks and, as labels, the probabilities that they should get."""
    marked, logits, _ = painted_unequal(photos, strong, seed=1)
    return marked, 1 / (1 + np.exp(-logits))


def trained(
    number: int, data: Path, paint_all: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
) -> keras.Model:
    """The model of a task, loaded, or trained on the images and labels that `paint_all` returns."""
    file = MODELS / f"{number}.keras"
    if not file.exists():
        keras.utils.set_random_seed(0)
        photos, _ = cats_and_dogs(data, "train", TRAINED)
        model = normalised()
        train(model, *paint_all(photos), EPOCHS)
        MODELS.mkdir(exist_ok=True)
        without_optimizer(model).save(file)
    return debugcnn.load_model(file)


def logits_of(model: keras.Model, photos: np.ndarray) -> np.ndarray:
    """The logits (n, 2) of photos from 0 to 255."""
    return debugcnn.logits(model, photos / np.float32(255))


def heatmaps(model: keras.Model, photos: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """(name, heatmaps for class 1) of photos from 0 to 255, by everything that is compared."""
    images = photos / np.float32(255)
    target = np.ones(len(images), int)

    @functools.cache
    def by_method(name):
        return debugcnn.HEATMAP_METHODS[name](model, images, target, value_range=(0, 1))

    for name in debugcnn.heatmap_names():
        yield name, debugcnn.heatmaps_by_name(name, by_method, images)


def with_margin(positions: np.ndarray) -> np.ndarray:
    """Where marks are (n, 2, height, width), with a margin around each."""
    kernel = np.ones((2 * MARGIN + 1,) * 2, np.uint8)
    dilated = [[cv2.dilate(np.uint8(mask), kernel) for mask in pair] for pair in positions]
    return np.array(dilated) > 0


def all_found(maps: np.ndarray, positions: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Whether each mark of an image has a higher mean than 95 % of the pixels off them: (n,)."""
    found = np.ones(len(maps))
    for i, values in enumerate(maps):
        limit = np.quantile(values[~near[i].any(0)], 0.95)
        found[i] = all(values[position].mean() > limit for position in positions[i])
    return found


def _explained(photos):
    """A slice of at most EXPLAINED of the photos, evenly spaced."""
    step = max(1, len(photos) // EXPLAINED)
    return slice(0, EXPLAINED * step, step)


def examine(task: str, data: Path) -> dict[str, Any]:
    """The results of a task: {"accuracy", "predicted 0 without marks", "area", "scores"}."""
    model = trained(TASKS.index(task), data, lambda photos: painted(photos, task, seed=1)[:2])
    photos, _ = cats_and_dogs(data, "validation", VALIDATED)
    marked, labels, _ = painted(photos, task, seed=2)
    results = {
        "accuracy": np.mean(logits_of(model, marked).argmax(1) == labels),
        "predicted 0 without marks": np.mean(logits_of(model, photos).argmax(1) == 0),
    }
    both = task != TASKS[0]
    marked, labels, positions = painted(photos, task, 3, np.ones(len(photos), int), both)
    correct = np.flatnonzero(logits_of(model, marked).argmax(1) == 1)
    correct = correct[_explained(photos)]
    positions = positions[correct]
    near = with_margin(positions)
    on_a_mark = near.any(1)
    scores = {}
    for name, maps in heatmaps(model, marked[correct]):
        scores[name] = {
            "share on the marks": debugcnn.energy_pointing(maps, on_a_mark),
            "peak on a mark": debugcnn.pointing_game(maps, on_a_mark),
            "marks found": all_found(maps, positions[:, : 1 + both], near),
        }
        print(task, name, *(f"{np.nanmean(v):.2f}" for v in scores[name].values()), flush=True)
    results["area"] = on_a_mark.mean()
    results = {key: round(float(value), 4) for key, value in results.items()}
    return results | {"scores": summary(scores)}


def examine_unequal(data: Path) -> dict[str, Any]:
    """The results where one mark adds twice as much as the other, of both models together:
    {"added logits" (by the stronger mark, by the weaker), "scores"}.
    """
    photos, _ = cats_and_dogs(data, "validation", VALIDATED)
    photos = photos[_explained(photos)]
    added, scores = [], {}
    for strong in (0, 1):
        number = len(TASKS) + strong
        model = trained(number, data, functools.partial(soft_labelled, strong=strong))
        plain = logits_of(model, photos)[:, 1]
        kinds = strong, 1 - strong
        alone = [painted_unequal(photos, strong, 3, [kind])[0] for kind in kinds]
        added.append([logits_of(model, marked)[:, 1] - plain for marked in alone])
        marked, _, positions = painted_unequal(photos, strong, 3, [0, 1])
        near = with_margin(positions)
        for name, maps in heatmaps(model, marked):
            of_name = scores.setdefault(name, {score: [] for score in UNEQUAL_SCORES})
            for score, values in zip(UNEQUAL_SCORES, _compared(maps, near[:, kinds])):
                of_name[score].append(values)
            means = " ".join(f"{np.nanmean(values[-1]):.2f}" for values in of_name.values())
            print("unequal", strong, name, means, flush=True)
    # A row is a photo, in the two models.
    scores = {n: {s: np.stack(v, 1) for s, v in of_n.items()} for n, of_n in scores.items()}
    means = np.mean(added, (0, 2))
    return {
        "added logits": [round(float(mean), 2) for mean in means],
        "scores": summary(scores),
    }


def _compared(maps, near):
    """Whether the stronger mark's mean value is higher, and its part of both, each (n,)."""
    maps = np.maximum(maps, 0)
    stronger, weaker = ((maps * near[:, i]).sum((1, 2)) / near[:, i].sum((1, 2)) for i in (0, 1))
    total = stronger + weaker
    part = np.divide(stronger, total, out=np.full(len(total), np.nan), where=total > 0)
    return (stronger > weaker) + 0.5 * (stronger == weaker), part


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("data"))
    data = parser.parse_args(arguments).data
    tasks = {task: examine(task, data) for task in TASKS}
    unequal = examine_unequal(data)
    results = {"hardware": hardware(), "tasks": tasks, "unequal marks": unequal}
    write_json(RESULTS, results, JSON_DEPTH)


if __name__ == "__main__":
    main()
