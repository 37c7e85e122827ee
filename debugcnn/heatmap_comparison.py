"""Which heatmap is true? Ten methods, judged on a net and photos of yours.

    python heatmap_comparison.py MODEL PHOTOS [--limit 25] [--value-range 0 255] [--masks FOLDER]
                             [--classes NAME ...] [--json FILE] [--work FOLDER]

MODEL is a file that debugcnn.load_model opens; PHOTOS a folder with a folder for each class, of
which `--limit` photos each are taken. `--masks` is a folder like PHOTOS with a PNG for each photo
whose subject is known, white on the subject and black elsewhere. Asked of each method is whether
the logit falls when its hottest pixels are taken away, whether it depends on what the layers have
learned, which half of a picture of two photos it marks, how much of it lies on the subject, and
what it costs. `--json` keeps the numbers; `--work` keeps the heatmaps meanwhile, so that a command
that was stopped goes on (delete them if you change METHODS). A method that cannot explain the net
is left out with a sentence, as guided backpropagation is where no ReLU is. The exit status is 0, or
2 with one sentence if nothing of this can be done.
"""

import argparse  # noqa: I001
import functools
import hashlib
import json
import os
import sys
import timeit
import warnings
from pathlib import Path

import debugcnn.quiet
import cv2
import numpy as np

from debugcnn import training

CHUNK = 25  # photos whose heatmaps are made and kept at once
FRACTIONS = (0.1, 0.3)  # of the pixels that are taken away or brought in
PAIRS = 100  # pictures of two photos
ORDERS, CASCADED, DEPTHS = 10, 2, 6  # of the randomisation: orders, photos for each, depths
DRAWS = 2000  # of the bootstrap
WORK = Path("out/heatmaps")


# ------------------------------------------------------------------------------------- the methods


def from_blurred(model, images, target, value_range):
    """Integrated gradients against the photo blurred, itself a little blurred, since single pixels
    are noise.
    """
    baseline = debugcnn.blurred(images)
    heat = debugcnn.integrated_gradients(model, images, target, 12, baseline, value_range)
    return np.stack([cv2.GaussianBlur(h, (0, 0), min(h.shape) / 32) for h in heat])


def occlusion(model, images, target, value_range):
    size = max(2, min(images.shape[1:3]) // 4)
    return debugcnn.occlusion(model, images, target, size, size // 2, value_range=value_range)


def by_layer(function, earlier=False):
    def explain(model, images, target, value_range):
        layer = debugcnn.convolution_ends(model)[-2:][0] if earlier else None
        return function(model, images, target, layer)

    return explain


def by_pixels(function, **options):
    def explain(model, images, target, value_range):
        return function(model, images, target, value_range=value_range, **options)

    return explain


def guided(model, images, target, value_range):
    return debugcnn.guided_backpropagation(model, images, target)


# Each takes (model, images, target, value_range), and returns (n, height, width).
METHODS = {
    "Grad-CAM": by_layer(debugcnn.grad_cam),
    "HiResCAM, a layer earlier": by_layer(debugcnn.hires_cam, earlier=True),
    "Grad-CAM++": by_layer(debugcnn.grad_cam_plus_plus),
    "LayerCAM, a layer earlier": by_layer(debugcnn.layer_cam, earlier=True),
    "guided backpropagation": guided,
    "SmoothGrad": by_pixels(debugcnn.smooth_grad, samples=12),
    "integrated gradients": by_pixels(debugcnn.integrated_gradients, steps=12),
    "integrated gradients from blur": from_blurred,
    "occlusion": occlusion,
    "Score-CAM": by_pixels(debugcnn.score_cam),
    "RISE": by_pixels(debugcnn.rise, samples=128),
}
# Products: what is hot in all. The last has the places of Grad-CAM in the same order, only sharper.
PRODUCTS = {
    "Guided Grad-CAM": ("Grad-CAM", "guided backpropagation"),
    "Grad-CAM x occlusion": ("Grad-CAM", "occlusion"),
    "Grad-CAM squared x occlusion": ("Grad-CAM", "Grad-CAM", "occlusion"),
    "Grad-CAM cubed": ("Grad-CAM", "Grad-CAM", "Grad-CAM"),
}
BLOB = "blob in the middle"
TRIVIAL = {
    BLOB: debugcnn.center_blob,
    "edges of the photo": debugcnn.edge_map,
    "random": lambda images: np.random.default_rng(0).random(np.shape(images)[:3], np.float32),
}


def parts_of(name):
    """The methods that a method, product or trivial map is made of."""
    return () if name in TRIVIAL else PRODUCTS.get(name, (name,))


def usable(model, images, target, value_range):
    """The names of the methods and products that can explain a model, and {method: why not}."""
    why = {}
    for name, method in METHODS.items():
        try:
            method(model, images[:1], target[:1], value_range)
        except ValueError as error:
            why[name] = str(error)
    return [name for name in [*METHODS, *PRODUCTS] if not why.keys() & parts_of(name)], why


def explained(name, make, images):
    """Heatmaps by name: `make` gives those of a method."""
    if name in TRIVIAL:
        return TRIVIAL[name](images)
    if name in PRODUCTS:
        return debugcnn.product(*(make(part) for part in PRODUCTS[name]))
    return make(name)


# ------------------------------------------------------------------------------- making and keeping


class Photos:
    """The photos of a folder, of each class in turn, and the heatmaps of them, made once."""

    def __init__(self, model, folder, limit, value_range, work, masks=None, classes=None):
        height, width, channels = debugcnn.image_shape(model)
        files, labels, folders = debugcnn.labelled_files(folder, None if masks else limit)
        count = debugcnn.classifier_head(model).classes
        labels = debugcnn.class_numbers(folders, classes, count)[0][labels]
        if masks:
            named = [Path(masks, file.parent.name, file.stem + ".png") for file in files]
            some = [mask.exists() for mask in named]
            if not any(some):
                raise ValueError(
                    f"{str(masks)!r} holds no mask of a photo of {str(folder)!r}: "
                    f"{named[0].parent.name}/{named[0].name} would be that of the first."
                )
            files = [file for file, one in zip(files, some) if one]
            labels = labels[some]
        photos, _ = debugcnn.load_images(files, (height, width), channels)
        names = [f"{file.parent.name}/{file.stem}" for file in files]
        turn = [int(np.sum(labels[:i] == label)) for i, label in enumerate(labels)]
        order = np.argsort(turn, kind="stable")
        self.names = [names[i] for i in order]
        self.photos, self.labels = photos[order], labels[order]
        self.images = debugcnn.from_pixels(self.photos, value_range)
        self.logits = debugcnn.logits(model, self.images)
        self.target = self.logits.argmax(1)
        self.model, self.value_range = model, value_range
        key = (
            debugcnn.model_digest(model)
            + str(self.names)
            + str(value_range)
            + str(self.images.shape)
        )
        self.work = work / hashlib.sha256(key.encode()).hexdigest()[:12]
        self.work.mkdir(parents=True, exist_ok=True)

    def chunks(self):
        """What of the photos is examined at once: (first, last + 1)."""
        many = len(self.images)
        return [slice(i, min(i + CHUNK, many)) for i in range(0, many, CHUNK)]

    def kept(self, name, chunk, make):
        """The array that `make` returned for a chunk, now or in an earlier run of the command."""
        file = self.work / f"{name} {chunk.start}-{chunk.stop}.npy"
        if not file.exists():
            partial = file.with_suffix(".partial.npy")
            np.save(partial, make())
            os.replace(partial, file)  # whole or not at all
        return np.load(file)

    def heatmaps(self, name, chunk):
        """(k, height, width) float32 by a method, product or trivial, the highest size 1."""

        def made(method):
            images, target = self.images[chunk], self.target[chunk]
            heat = METHODS[method](self.model, images, target, self.value_range)
            peak = np.abs(heat).max((1, 2), keepdims=True)
            return np.divide(heat, peak, out=np.zeros_like(heat), where=peak > 0).astype("f2")

        def make(method):
            return self.kept(method, chunk, lambda: made(method)).astype(np.float32)

        return explained(name, make, self.images[chunk])


# -------------------------------------------------------------------------------------- the scores


def curves(case, name, chunk):
    """(k, 5, len(FRACTIONS)) logits: while the hottest pixels are taken away to grey, brought in
    from grey, taken away to blur, brought in from blur, and while those are taken away to grey that
    another photo of the chunk would lose (NaN if there is no other).
    """
    model, images, target = case.model, case.images[chunk], case.target[chunk]
    heat = case.heatmaps(name, chunk)
    others = np.roll(heat, 2 if len(heat) > 2 else 1, axis=0)  # of the same class, of two
    options = dict(fractions=FRACTIONS, target=target, value_range=case.value_range)
    blurred = debugcnn.blurred(images)
    runs = [
        debugcnn.deletion_curve(model, images, h, baseline=fill, insertion=insertion, **options)
        for h, fill, insertion in (
            (heat, None, False),
            (heat, None, True),
            (heat, blurred, False),
            (heat, blurred, True),
            (others, None, False),
        )
    ]
    if len(heat) == 1:
        runs[-1] *= np.nan
    return np.stack(runs, 1)


def deletion(case, names, tell):
    """{name: {score: (n,)}}, in logits, the higher the better, and {name: mean `curves`}."""
    every = np.arange(len(case.target))
    grey = debugcnn.baseline_fill(case.images, None, case.value_range)
    nothing = np.broadcast_to(grey, case.images.shape), debugcnn.blurred(case.images)
    empty = [debugcnn.logits(case.model, fill)[every, case.target] for fill in nothing]
    empty = np.stack(empty, 1)
    whole = case.logits[every, case.target]
    scores, means = {}, {}
    for name in names:
        kept, runs = f"curves {FRACTIONS} {name}", []
        for chunk in case.chunks():
            runs.append(case.kept(kept, chunk, functools.partial(curves, case, name, chunk)))
            tell(f"{name}: pixels of {chunk.stop} photos taken away and brought in")
        runs = np.concatenate(runs)
        lost = whole[:, None] - runs[:, [0, 2, 4]].mean(2)
        won = runs[:, [1, 3]].mean(2) - empty
        scores[name] = {
            "deletion to grey": lost[:, 0],
            "deletion to blur": lost[:, 1],
            "insertion into grey": won[:, 0],
            "insertion into blur": won[:, 1],
            "deletion less that of another's holes": lost[:, 0] - lost[:, 2],
        }
        means[name] = np.nanmean(runs, 0)
    return scores, means


def side_by_side(case):
    """Pictures of two halves, the middle of a photo each: (k, height, width, channels), their
    target classes (k,), and where the halves of these are (k, height, width).

    The photos are those that the net gets right, and of one pair it explains the left or the right
    one in turn.
    """
    right = np.flatnonzero(case.target == case.labels)
    kinds = [[i for i in right if case.labels[i] == label] for label in np.unique(case.labels)]
    kinds = [kind for kind in kinds if kind]
    if len(kinds) < 2:
        return None
    width = case.images.shape[2]
    middle, pictures, targets, own = width // 4, [], [], []
    for pair in range(min(PAIRS, *map(len, kinds[:2]))):
        left, right = (kinds[k][pair] for k in ((0, 1) if pair % 4 < 2 else (1, 0)))
        halves = [case.images[i][:, middle : middle + width // 2] for i in (left, right)]
        pictures.append(np.concatenate([*halves, halves[1][:, : width % 2]], axis=1))
        asked = pair % 2
        targets.append(case.target[(left, right)[asked]])
        mask = np.zeros(case.images.shape[1:3], bool)
        mask[:, slice(width // 2, None) if asked else slice(width // 2)] = True
        own.append(mask)
    return np.stack(pictures), np.array(targets), np.stack(own)


def pointing(case, names, tell):
    """{name: {"share in its own half", "peak in its own half": (k,)}}"""
    found = side_by_side(case)
    if found is None:
        return {}
    pictures, targets, own = found
    scores = {}
    for name in names:
        heat = judged(case, name, pictures, targets, "pairs")
        scores[name] = {
            "share in its own half": debugcnn.energy_pointing(heat, own),
            "peak in its own half": debugcnn.pointing_game(heat, own),
        }
        tell(f"{name}: pictures of two halves")
    return scores


def judged(case, name, images, targets, what):
    """Heatmaps by name of images that are not those of the folder, kept as `what`."""

    def explain(method):
        def make():
            return METHODS[method](case.model, images, targets, case.value_range)

        return case.kept(f"{what} {method}", slice(0, len(images)), make)

    return explained(name, explain, images)


def on_the_subject(case, names, folder, tell):
    """{name: {"share on the subject", "peak on the subject": (n,)}} of photos that have a mask."""
    files = [folder / f"{name}.png" for name in case.names]
    masks = debugcnn.load_images(files, case.images.shape[1:3], 1)[0][..., 0] > 127
    scores = {}
    for name in names:
        heat = np.concatenate([case.heatmaps(name, chunk) for chunk in case.chunks()])
        scores[name] = {
            "share on the subject": debugcnn.energy_pointing(heat, masks),
            "peak on the subject": debugcnn.pointing_game(heat, masks),
            "hottest tenth on the subject": debugcnn.top_fraction_inside(heat, masks),
        }
        tell(f"{name}: {len(heat)} photos with a mask")
    return scores


def randomised(case, names, tell):
    """{name: {layer: (orders, CASCADED)}}: `cascade` at some depths, from the top down. Each random
    order meets other photos; there are ORDERS, or as many as there are fifties of photos, 2 at
    least.
    """
    learned = [
        layer.name
        for layer in debugcnn.layers_with_weights(case.model)
        if any(weights.ndim > 1 for weights in layer.get_weights())
    ][::-1]
    places = np.linspace(0, len(learned) - 1, min(DEPTHS, len(learned))).round().astype(int)
    layers = [learned[i] for i in places]

    def explain(model, images, targets):
        """All heatmaps, one name after the other."""

        @functools.cache
        def make(method):
            return METHODS[method](model, images, targets, case.value_range)

        return np.concatenate([explained(name, make, images) for name in names])

    def agreement(order, some):
        options = dict(target=case.target[some], layers=layers, seed=order)
        found = debugcnn.cascading_randomization(case.model, explain, case.images[some], **options)
        return np.stack([found[layer].reshape(len(names), CASCADED) for layer in layers])

    orders = []
    kept = "cascade " + hashlib.sha256(f"{DEPTHS} {names}".encode()).hexdigest()[:8]
    for order in range(min(ORDERS, max(2, len(case.images) // 50))):
        chunk = slice(order * CASCADED, (order + 1) * CASCADED)
        some = np.arange(chunk.start, chunk.stop) % len(case.images)
        orders.append(case.kept(kept, chunk, functools.partial(agreement, order, some)))
        tell(f"layers in {order + 1} random orders")
    values = np.stack(orders, 2)  # (layers, names, orders, CASCADED)
    return {name: dict(zip(layers, values[:, i])) for i, name in enumerate(names)}


def cost(case, names):
    """{method: seconds for a photo, as a multiple of those of a run of the net}, here and now."""

    def timed(work, *given):
        work(*given)  # compiles
        return min(timeit.repeat(lambda: work(*given), number=1, repeat=2))

    run = timed(debugcnn.logits, case.model, case.images[:32]) / len(case.images[:32])
    given = case.model, case.images[:4], case.target[:4], case.value_range
    methods = [name for name in names if name in METHODS]
    return {name: timed(METHODS[name], *given) / len(given[2]) / run for name in methods}


# ------------------------------------------------------------------------------------- the verdict


def bootstrap(values, seed=0):
    """The mean of values, leaving out NaN, and a 95 % interval by the bootstrap of the rows: (n,)
    or (n, several), where those of a row belong together.
    """
    values = np.asarray(values, float)
    values = values.reshape(len(values), -1)
    values = values[np.isfinite(values).any(1)]
    if not len(values):
        return {"mean": None, "interval": None, "photos": 0}
    rng = np.random.default_rng(seed)
    means = [np.nanmean(values[rng.integers(0, len(values), len(values))]) for _ in range(DRAWS)]
    return {
        "mean": round(float(np.nanmean(values)), 4),
        "interval": [round(float(end), 4) for end in np.percentile(means, [2.5, 97.5])],
        "photos": int(np.isfinite(values).sum()),
    }


def summary(scores):
    """{name: {score: its bootstrap, with "less the blob": that of the difference on each photo}}"""
    return {
        name: {
            score: bootstrap(values) | {"less the blob": bootstrap(values - scores[BLOB][score])}
            for score, values in of_name.items()
        }
        for name, of_name in scores.items()
    }


def examine(model, folder, limit, value_range, masks=None, classes=None, work=WORK, tell=print):
    """All that the command asks, as it is kept in a file (see `main`)."""
    case = Photos(model, folder, limit, value_range, work, classes=classes)
    tell(f"{len(case.images)} photos, {np.mean(case.target == case.labels):.1%} right")
    names, why = usable(model, case.images, case.target, value_range)
    for name, sentence in why.items():
        tell(f"{name} is left out. {sentence}")
    names += TRIVIAL
    subjects = {}
    if masks:
        masked = Photos(model, folder, None, value_range, work, masks, classes)
        subjects = on_the_subject(masked, names, masks, tell)
    halves = pointing(case, names, tell)
    layers = randomised(case, names, tell)
    scores, means = deletion(case, names, tell)
    scores = {name: subjects.get(name, {}) | halves.get(name, {}) | scores[name] for name in names}
    return {
        "photos": len(case.images),
        "folder": Path(folder).name,
        "right": float(np.mean(case.target == case.labels)),
        "hardware": training.hardware(),
        "fractions": FRACTIONS,
        "scores": summary(scores),
        "curves": {name: np.round(mean, 3).tolist() for name, mean in means.items()},
        "layers": {
            name: {layer: bootstrap(values) for layer, values in found.items()}
            for name, found in layers.items()
        },
        "cost": {name: round(times, 1) for name, times in cost(case, names).items()},
    }


COLUMNS = {
    "share on the subject": "{:.2f}",
    "peak on the subject": "{:.2f}",
    "hottest tenth on the subject": "{:.2f}",
    "peak in its own half": "{:.2f}",
    "deletion to grey": "{:.2f}",
    "insertion into blur": "{:.2f}",
    "deletion less that of another's holes": "{:+.2f}",
}


def table(found):
    """Markdown: a row for each method, a column for each question; * does not beat the blob."""
    some = [score for score in COLUMNS if score in found["scores"][BLOB]]
    lines = ["| | " + " | ".join(some) + " | same with all layers shuffled | runs of the net |"]
    lines.append("|---" * (len(some) + 3) + "|")
    for name, scores in found["scores"].items():
        cells = []
        for score in some:
            one = scores[score]
            if one["mean"] is None:
                cells.append("")
                continue
            low, _ = one["less the blob"]["interval"]
            mark = "" if name == BLOB or low > 0 else " \\*"
            cells.append(COLUMNS[score].format(one["mean"]) + mark)
        last = list(found["layers"][name].values())[-1]["mean"]
        cells.append("" if last is None else f"{last:.2f}")
        cells.append(f"{found['cost'][name]:.0f}" if name in found["cost"] else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help="a .keras or .h5 file")
    parser.add_argument("photos", help="a folder with a folder of photos for each class")
    parser.add_argument("--limit", type=int, default=25, help="photos of each class (25)")
    parser.add_argument("--value-range", nargs="+", default=["0", "255"], metavar="VALUE")
    parser.add_argument("--classes", nargs="+", help="names in the order of the net's answer")
    parser.add_argument("--masks", type=Path, help="a folder like PHOTOS, with a PNG for each")
    parser.add_argument("--json", type=Path, help="a file for the numbers")
    parser.add_argument("--work", type=Path, default=WORK, help="out/heatmaps")
    args = parser.parse_args(arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            model = debugcnn.load_model(args.model)
        value_range = args.value_range
        value_range = value_range[0] if len(value_range) == 1 else tuple(map(float, value_range))
        given = args.photos, args.limit, value_range, args.masks, args.classes, args.work
        found = examine(model, *given)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(table(found))
    if args.json:
        partial = args.json.with_suffix(".partial")
        partial.write_text(json.dumps(found, indent=1) + "\n")
        os.replace(partial, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
