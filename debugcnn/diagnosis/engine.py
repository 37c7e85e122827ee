"""Find what is wrong with an image classifier, and say what cures it.

    python diagnose.py MODEL PHOTOS [--train FOLDER] [--value-range 0 255] [--limit 500]
                       [--json FILE] [--html FILE]

MODEL is a .keras or .h5 file; PHOTOS a folder with a folder for each class, of photos that the net
was not trained on. Each cause in CAUSES is examined by a check of its own, on the photos as the net
is fed with them (`--value-range`). A cause is a `fault` where the check is beyond doubt,
`suspicious` where it is not, and `fine` otherwise. Where one cause explains another, the root comes
first. Exit status: 0, no fault was found; 1, a fault was found; 2, the net cannot be examined.
"""

import argparse  # noqa: I001
import json
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import debugcnn.quiet
import numpy as np
from tqdm import tqdm

from checks import answers, inputs, layers, page, photos
from checks.statistics import FEW, SURE, enough

# The causes, roots first: an earlier one can explain a later one.
CAUSES = (
    *("blank_photos", "not_finite", "output_head", "no_activation", "untrained_layer"),
    *("random_answer", "input_scale", "channel_order", "flipped_or_rotated", "resize"),
    *("dead_filters", "batch_statistics", "class_order", "constant_answer", "threshold"),
    *("at_chance", "leak", "memorised", "shortcut", "label_noise", "saturated_answer"),
    *("overconfident", "exploding"),
)
INPUTS = "input_scale", "channel_order", "flipped_or_rotated", "resize"
VERDICTS = ("fault", "suspicious", "fine")
# Above these a cause is a fault, or suspicious. Each is set apart from what sound nets show.
LIMITS = {
    "blank_photos": 0.01,  # of the photos
    "untrained_layer": 0.02,  # of the weights of all kernels
    "softmax": 0.05,  # by which probabilities miss 1 in sum, for output_head
    "yes": 1.5,  # classes, to which sigmoids say yes, for output_head
    "class_order": 0.4,  # skill
    "at_chance": 0.65,  # skill
    "random_answer": 0.01,  # standard deviations of the logits; for batch_statistics, too
    "constant_answer": 0.995,  # of the photos get the same answer
    "threshold": 0.03,  # accuracy
    "leak": 0.01,  # of the photos
    "memorised": 0.1,  # accuracy
    "shortcut": 0.1,  # accuracy
    "unlike": 0.05,  # accuracy, on photos trained on, for `_unlike_training`
    "twins": 4,  # of 7 photos with the patch that turns those of other classes, for shortcut
    "twins of many": 3,  # of 3 photos, where there are more than four classes
    "label_noise": 0.03,  # of the photos of which the net is surest, or of all
    "saturated_answer": 0.05,  # of the saturated answers are wrong
    "overconfident": 0.05,  # probability
    "exploding": 1e6,
    "dead_filters": 2 / 3,  # of a layer's channels
    "dead_units": 0.8,  # of a dense layer, for dead_filters
    "zeroed": 0.1,  # of a layer's channels, for dead_filters
}
BETTER = 0.05  # accuracy that another form has to bring beyond another order of the classes
UNFIT = 0.1  # skill and accuracy, by which another cause has to explain more
OF_THE_NET = {  # checks that change the net instead of what it is given
    "no_activation": "an activation behind {}",
    "batch_statistics": "each batch normalised by {}",
}
UNEVEN = 0.1  # by which one of many classes is answered more often than it is there
ANYWAY = 5  # standard errors of a gain, beyond which it counts without being UNEVEN
LEANS, LESS = 0.25, 1.96  # beyond such an excess of one class a gain of fewer errors is enough
NEARLY = 1.96 / SURE  # a skill that is nearly chance, at 95 %, is no alarm on a net that knows much
MOST = 0.75  # of the photos trained on are of one class
KNOWS_WELL = 0.9  # accuracy of a net that dead filters do not cost much
DIFFER = 0.3  # spread of the answers, in logits, above which they are not all the same
EVEN = 0.75  # as often wrong when sure: wrong labels, and no net that knows photos by heart
EXPLAINS = 6  # in log-likelihood: twice that is beyond chance at 0.05 % (one degree of freedom)
LIKELIER = 3.5  # the same, where the net is found to be too sure anyway: which of the two is it?
HESITATES = 0.08  # of the photos have a small margin: a net too weak to judge labels


OTHERWISE = "Read them as in training, if the program did this to them; or train on such, too."
UNLIKE = {  # cause, and what the photos are, beside those trained on
    "light": ("input_scale", "lighter or darker than"),
    "contrast": ("input_scale", "of another contrast than"),
    "tint": ("channel_order", "of another tint than"),
    "colour": ("channel_order", "less colourful than"),
    "sharpness": ("resize", "less sharp, or sharper or noisier, than"),
}


class Finding(NamedTuple):
    """What one check found."""

    check: str
    cause: str
    verdict: str
    value: float | None
    limit: float | None
    message: str
    remedy: str


REMEDIES = {
    "blank_photos": "Look why they could not be read, and leave them out.",
    "not_finite": "Load an earlier checkpoint, and train with a lower learning rate.",
    "output_head": "Use Dense(1, 'sigmoid') or Dense(classes, 'softmax'), one activation only, and "
    "train again.",
    "no_activation": "Give each convolution and dense layer but the last an activation, as relu.",
    "random_answer": "Call the layers without training=True, so that dropout stops in predict.",
    "untrained_layer": "Save the net after fit, and check that the layer is trainable or loaded.",
    "input_scale": "Scale the pixels as in training, best by a Rescaling layer inside the net.",
    "channel_order": "Exchange red and blue, as cv2.cvtColor(photo, cv2.COLOR_BGR2RGB) does, or "
    "take colour away, if the training had none.",
    "flipped_or_rotated": "Turn the photos; ImageOps.exif_transpose does what their tag says.",
    "resize": "Resize photos with the same function and filter as in training.",
    "batch_statistics": "Train with training=True, long enough for the running means, and ask with "
    "training=False. Or the photos are darker or less sharp than those of the training.",
    "class_order": "Use the order of the classes that training had: class_names, sorted by name.",
    "constant_answer": "Look at the loss from the first step on: the learning rate is too high or "
    "too low, or nothing reaches the answer.",
    "threshold": "Move the threshold, chosen on validation photos, or balance the classes.",
    "at_chance": "Look whether it can learn 20 photos by heart; if not, the program is wrong.",
    "leak": "Split again, duplicates together: data_separator.py does.",
    "memorised": "More photos, augmentation, weight decay, or a smaller net.",
    "shortcut": "Take it out of the photos of all classes, or put it on all, and train again.",
    "label_noise": "Look at these photos and mend their labels.",
    "saturated_answer": "Train for less long, with label smoothing or weight decay.",
    "overconfident": "Divide the logits by a temperature that is chosen on validation photos.",
    "exploding": "Add normalisation, and lower the learning rate.",
    "dead_filters": "Lower the learning rate, or use another activation.",
}


def diagnose(
    model, photos_, labels, train=None, value_range=(0, 255), output=None, ways=None, progress=None
):
    """A report: {"accuracy", "skill", "photos", "value_range", "findings": [Finding, ...]}.

    `photos_` are (n, h, w, c), from 0 to 255, of the size that the model takes; `labels` (n,) the
    numbers of their classes; `train` the same two of photos that it was trained on; `value_range`
    how the model is fed; `ways` {name: the same photos resized otherwise}. The worst finding comes
    first. Raises ValueError for a model or photos that cannot be examined.
    """
    return examine(model, photos_, labels, train, value_range, output, ways, progress).report()


def examine(
    model, photos_, labels, train=None, value_range=(0, 255), output=None, ways=None, progress=None
):
    """A Case after all checks; parameters and errors are those of `diagnose`."""
    photos_ = debugcnn.check_images(model, np.asarray(photos_, np.float32))
    labels = np.asarray(labels)
    answer = debugcnn.classifier_head(model, output)
    if labels.shape != (len(photos_),) or labels.dtype.kind not in "iu":
        raise ValueError(f"labels are one class number for each of the {len(photos_)} photos.")
    if not 0 <= labels.min() <= labels.max() < answer.classes:
        raise ValueError(f"labels are 0 to {answer.classes - 1}, not to {labels.max()}.")
    if not enough(labels):
        counts = ", ".join(map(str, np.bincount(labels)))
        raise ValueError(
            f"Too few labelled photos ({counts} by class): {2 * FEW} are needed, {FEW} of them not "
            "of the most frequent class."
        )
    value_range = value_range if isinstance(value_range, str) else tuple(value_range)
    ways = {way: debugcnn.check_images(model, resized) for way, resized in (ways or {}).items()}
    for way, resized in ways.items():
        if len(resized) != len(photos_):
            raise ValueError(f"{len(resized)} photos are resized by {way}, not {len(photos_)}.")
    left, finding = _without_blank(photos_, labels)
    ways = {way: resized[left] for way, resized in ways.items()}
    case = Case(model, photos_[left], labels[left], value_range, output, answer)
    case.train = train
    case.add("blank_photos", *finding)
    steps = [
        (about_layers, ()),
        (about_inputs, (ways,)),
        (about_activations, ()),
        (about_answers, ()),
        (about_photos, ()),
    ]
    for step, more in progress(steps) if progress else steps:
        step(case, *more)
    return case


def _without_blank(photos_, labels):
    """(n,) bool: the photos that are examined, and what is said of those that are blank."""
    blank, limit = photos.blank(photos_), LIMITS["blank_photos"]
    several = len(np.unique(labels[blank])) > 1  # or one class may have nothing on its photos
    left = ~blank if several and enough(labels[~blank]) else np.ones(len(labels), bool)
    share = blank.mean()
    message = f"{blank.sum()} of {len(blank)} photos are of one colour all over"
    message += ", and left out." if not left.all() else "."
    verdict = "fault" if share > limit and several else "suspicious" if share else "fine"
    return left, (verdict, message, share, limit)


class Case:
    """A net under examination, and what is known of it so far."""

    def __init__(self, model, photos_, labels, value_range, output, answer):
        self.model, self.photos, self.labels = model, photos_, labels
        self.value_range, self.output, self.answer = value_range, output, answer
        self.findings, self.accuracy, self.skill = [], None, None
        self.train = None  # photos and labels that were trained on
        self.logits = self.probabilities = None
        self.given = photos_, value_range  # before any cure
        self.untrained = self.drawn = False  # most weights; some, beyond doubt
        self.mislabelled, self.copies = [], []
        self.intervention = self.patch = None  # what showed a shortcut
        self.alike = None  # makes photos trained on like the others

    def report(self):
        """What `diagnose` returns. Of several findings on one cause the last counts."""
        found = {finding.cause: finding for finding in self.findings}
        rank = {verdict: i for i, verdict in enumerate(VERDICTS)}
        return {
            "accuracy": self.accuracy,
            "skill": self.skill,
            "photos": len(self.labels),
            "value_range": self.value_range,
            "findings": sorted(
                found.values(), key=lambda f: (rank[f.verdict], CAUSES.index(f.cause))
            ),
        }

    def add(self, cause, verdict, message, value=None, limit=None, remedy=None):
        """A finding; less than a fault has no remedy to be followed."""
        remedy = (remedy or REMEDIES[cause]) if verdict == "fault" else ""
        value, limit = (None if x is None else float(x) for x in (value, limit))
        self.findings.append(Finding(cause, cause, verdict, value, limit, message, remedy))

    def has(self, *causes):
        return any(f.cause in causes and f.verdict == "fault" for f in self.findings)

    @property
    def images(self):
        return debugcnn.from_pixels(self.photos, self.value_range)


def about_layers(case):
    """What the weights and the graph tell."""
    wrong = layers.not_finite(case.model, case.images[:32])
    if wrong:
        first = wrong[0]
        message = f"{first.count:,} {first.where} of {first.layer} are NaN or infinite, the first."
        case.add("not_finite", "fault", message, len(wrong), 0)
    else:
        case.add("not_finite", "fine", "All weights and activations are finite.", 0, 0)
    head = layers.output_head(case.model, case.output)
    if head:
        case.add("output_head", "fault", f"The net's head: {head}.")
    elif case.answer.kind == "labels":
        message = "It answers yes or no for each class, and is judged by the highest of them."
        case.add("output_head", "suspicious", message)
    elif case.answer.kind == "sigmoid" and not case.answer.applied:
        message = "It returns a logit: 0 is its threshold, not one half, and it is no probability."
        case.add("output_head", "suspicious", message)
    else:
        case.add("output_head", "fine", "The head fits the number of classes.")
    linear = layers.no_activation(case.model)
    some = 0 if layers.branches(case.model) else len(layers.linear_layers(case.model))
    verdict = "fault" if linear else "suspicious" if 0 < some <= inputs.FORGOTTEN else "fine"
    count = f"{linear or some} layers with kernels act" if linear or some > 1 else "One layer acts"
    message = f"{count} on the next without an activation."
    message = message if linear or some else "There are activations between its layers."
    case.add("no_activation", verdict, message, linear, 0)
    drawn = layers.untrained_layer(case.model)
    total = layers.kernel_weights(case.model)
    share = sum(layer.weights for layer in drawn) / max(total, 1)
    names = ", ".join(layer.layer for layer in drawn[:4]) + (", ..." if len(drawn) > 4 else "")
    limit = LIMITS["untrained_layer"]
    last = layers.last_with_a_kernel(case.model)
    head = drawn and drawn[-1].layer == last and drawn[-1].certain
    verdict = "fault" if share > limit or head else "suspicious" if drawn else "fine"
    message = f"{share:.0%} of the weights are as they were drawn: {names}."
    if not drawn:
        message = "No layer has weights as they are drawn."
    case.add("untrained_layer", verdict, message, share, limit)
    case.untrained, case.drawn = share > 0.5, any(layer.certain for layer in drawn)


def about_inputs(case, ways):
    """Is it fed as in training? Each contest starts from what the last one found."""
    model, labels, output = case.model, case.labels, case.output
    asked = debugcnn.logits_and_probabilities(model, case.images, output)
    case.logits, case.probabilities = asked
    if not np.isfinite(case.logits).all() or case.untrained:
        why = "untrained" if case.untrained else "not finite"
        for cause in INPUTS:
            case.add(cause, "fine", f"Cannot be told, since the net is {why}.")
        return
    total = np.median(case.probabilities.sum(1))
    if case.answer.applied and case.answer.kind == "softmax" and abs(total - 1) > LIMITS["softmax"]:
        message = f"Its probabilities add up to {total:.2g} in the median, not to 1: its softmax "
        case.add("output_head", "fault", message + "runs over something else than the classes.")
    again = layers.repeated(model, case.images, output)
    limit = LIMITS["random_answer"]
    message = f"Asked twice, its logits differ by up to {again.again:.2g} standard deviations."
    random = again.again > limit
    case.add("random_answer", "fault" if random else "fine", message, again.again, limit)
    paired = None  # how many are right with the classes in another order
    if case.answer.classes > 2 and _order_is_wrong(case, knows=0.5):
        paired = answers.order_of_classes(case.logits, labels)[1]
    losses = photos.shortcut(
        model, case.photos, labels, case.value_range, output, case.logits, whole_only=True
    )
    if _about_losses(case, losses):  # then what makes it clearer looks like a better form
        for cause in INPUTS:
            case.add(cause, "fine", f"Cannot be told before the {case.intervention}.")
        return
    contests = {
        "input_scale": (inputs.input_scale, "pixel values {}"),
        "channel_order": (inputs.channel_order, "{}"),
        "flipped_or_rotated": (inputs.flipped_or_rotated, "the photos {}"),
        "resize": (inputs.resize, "the photos resized by {}"),
    }
    if case.photos.shape[3] != 3:
        del contests["channel_order"]
    while contests:  # the strongest first, since one can look like another
        found = {}
        for cause, (check, words) in contests.items():
            more = (ways, labels) if cause == "resize" else (labels,)
            held = check(model, case.photos, *more, case.value_range, output, case.logits)
            found[cause] = held, words
        winners = [cause for cause, (held, _) in found.items() if held.best]
        if paired:
            best = max((found[cause][0].accuracies[1] for cause in winners), default=0)
            if best < paired + BETTER:
                for cause in INPUTS:
                    case.add(cause, "fine", "Cannot be told before the classes are in order.")
                return
            paired = None
        most = max((_worth(found[cause][0]) for cause in winners), default=0)
        if winners and _unfit(case, most):
            return
        told = [max(winners, key=lambda cause: _worth(found[cause][0]))] if winners else list(found)
        for cause in told:
            held, words = found[cause]
            given = _in_words(case.value_range) if cause == "input_scale" else ""
            _told(case, cause, held, words, given)
            del contests[cause]
            if held.best:
                case.logits, case.probabilities = held.logits, None
                ways = _cured(case, cause, held.best, ways)
    if again.alone > limit and not random:
        message = (
            "Its answer to a photo depends on the others in the batch: logits differ by up to "
            f"{again.alone:.2g} standard deviations."
        )
        case.add("batch_statistics", "fault", message, again.alone, limit)
        return
    if _unlike_training(case):
        return
    found = _of_the_net(case)
    batch = found["batch_statistics"]
    if _unfit(case, -np.inf, found):
        return
    if batch is None:
        case.add("batch_statistics", "fine", "The net has no batch normalisation.")
    else:
        _told(case, "batch_statistics", batch, OF_THE_NET["batch_statistics"])


def _unlike_training(case):
    """Whether the photos differ from those trained on in what costs the net its answers: then that
    is told.
    """
    if case.train is None or case.has(*INPUTS):
        return False
    given = case.photos, case.labels, case.train, case.value_range, case.output
    found, limit = photos.unlike_training(case.model, *given), LIMITS["unlike"]
    worst = found[0] if found else None
    right = np.mean(case.logits.argmax(1) == case.labels)
    if not worst or worst.loss.low <= limit or right > worst.loss.accuracy - limit:
        return False
    cause, words = UNLIKE[worst.what]
    message = (
        f"These photos are {words} those trained on (told apart with a skill of {worst.told:.2f}). "
        f"With the same done to those, {worst.loss.left:.1%} of them are right instead of "
        f"{worst.loss.accuracy:.1%}."
    )
    case.add(cause, "fault", message, worst.loss.low, limit, OTHERWISE)
    case.alike = worst.alike
    return True


def _order_is_wrong(case, knows=0.0):
    """Whether many more answers are right when each class is taken for another, `knows` at least:
    a net that is fed wrongly may give each class an answer of its own, too.
    """
    plain, paired = answers.order_of_classes(case.logits, case.labels)
    return paired - plain > 0.2 and paired > knows


def _of_the_net(case):
    """{cause: Contest} for OF_THE_NET; None where there is nothing to try."""
    given = case.photos, case.labels, case.value_range, case.output, case.logits
    return {cause: getattr(inputs, cause)(case.model, *given) for cause in OF_THE_NET}


def _unfit(case, worth, found=None):
    """Whether a fault of the net explains more than what brings `worth`; then that is told."""
    found = found or _of_the_net(case)
    won = {cause: held for cause, held in found.items() if held and held.best}
    best = max(won, key=lambda cause: won[cause].worth, default=None)
    if best is None or won[best].worth <= worth + UNFIT:
        return False
    if best == "batch_statistics" and _unlike_training(case):  # which explains that, too
        return True
    _told(case, best, won[best], OF_THE_NET[best])
    told = {finding.cause for finding in case.findings}
    for cause in (*INPUTS, "batch_statistics"):
        if cause not in told:
            case.add(cause, "fine", f"Cannot be told, because of {best}.")
    return True


def _worth(contest):
    """What a form brings. "caffe" is BGR with means, and a negative changes all that there is, so
    they have to bring more than what is simpler.
    """
    less = {"caffe": contest.comparison.error + 0.01, inputs.NEGATIVE: 0.05}
    return contest.worth - less.get(contest.best, 0)


def _cured(case, cause, form, ways):
    """Feed the case as it won, and give back the ways to resize the same photos."""
    if form in inputs.CHANGES:
        cure = inputs.CHANGES[form]
        case.photos = cure(case.photos)
        return {way: cure(resized) for way, resized in ways.items()}
    if cause == "resize":
        case.photos = inputs.resized_otherwise(case.photos, ways)[form]
        return {}
    case.value_range = form
    return ways


def _told(case, cause, contest, words, given=""):
    comparison = contest.comparison
    what = words.format(_in_words(contest.tried))
    instead = f" instead of {given}" if given else ""
    limit = inputs.MARGIN * (1 - comparison.before)
    message = (
        f"With {what}{instead}, {contest.accuracies[1]:.1%} are right instead of "
        f"{contest.accuracies[0]:.1%}, and the skill is {comparison.after:.3f} instead of "
        f"{comparison.before:.3f} (+-{1.96 * comparison.error:.3f})."
    )
    case.add(cause, "fault" if contest.best else "fine", message, comparison.gain, limit)


def _in_words(form):
    return form if isinstance(form, str) else "{:g} to {:g}".format(*form)


def about_activations(case):
    """What the activations tell, on photos as in training."""
    every = max(1, len(case.images) // 100)
    found = layers.units(case.model, case.images[::every])
    *inner, answer = found
    dead = {layer: layer.constant / layer.count for layer in inner or found}
    of_map = {layer: LIMITS["dead_filters" if layer.is_map else "dead_units"] for layer in dead}
    worst = max(dead, key=lambda layer: dead[layer] / of_map[layer])
    share, limit = dead[worst], of_map[worst]
    message = f"{worst.constant} of {worst.count} channels of {worst.layer} never change."
    verdict = "fault" if share > limit else "suspicious" if share > 0.3 else "fine"
    well = np.mean(case.logits.argmax(1) == case.labels) > KNOWS_WELL
    if well or case.has("not_finite", "output_head", "untrained_layer"):
        verdict = "suspicious" if verdict == "fault" else verdict
    zero = next(iter(layers.zeroed(case.model)), None)
    if zero and verdict != "fault":
        share, limit = zero.zero / zero.count, LIMITS["zeroed"]
        verdict = "suspicious" if well or share <= limit else "fault"
        message = f"All weights of {zero.zero} of {zero.count} channels of {zero.layer} are 0."
    case.add("dead_filters", verdict, message, share, limit)
    largest = max(found, key=lambda layer: layer.highest)
    limit = LIMITS["exploding"]
    verdict = "fault" if largest.highest > limit else "fine"
    verdict = "suspicious" if limit >= largest.highest > 0.01 * limit else verdict
    message = f"{largest.layer} reaches {largest.highest:.2g}."
    case.add("exploding", verdict, message, largest.highest, limit)


def about_answers(case):
    """What the answers tell, to photos as in training."""
    model, labels = case.model, case.labels
    probabilities = case.probabilities
    if probabilities is None:  # the photos or their values were changed
        probabilities = debugcnn.probabilities(model, case.images, case.output)
    if not np.isfinite(probabilities).all():
        return
    case.accuracy = float(np.mean(probabilities.argmax(1) == labels))
    case.skill, low, high = answers.interval(case.logits, labels)
    skill = f"The skill is {case.skill:.3f} ({low:.3f} to {high:.3f}; one half is chance)."
    roots = "not_finite", "output_head", "no_activation", "untrained_layer", "dead_filters"
    explained = case.has(*roots, "batch_statistics") or case.alike
    _about_cut_photos(case)
    two = case.answer.classes == 2
    turned = high < LIMITS["class_order"] if two else _order_is_wrong(case)
    case.add("class_order", "fault" if turned else "fine", skill, high, LIMITS["class_order"])
    nearly = case.skill + NEARLY * (high - case.skill)
    chance = low <= 0.5 <= high and nearly < LIMITS["at_chance"]
    doubtful = low <= 0.5 and not chance and not turned
    verdict = "suspicious" if doubtful or (chance and explained) else "fault" if chance else "fine"
    case.add("at_chance", verdict, skill, nearly, LIMITS["at_chance"])
    if case.has("at_chance", "constant_answer") or (case.drawn and case.has("class_order")):
        _promote(case, "untrained_layer")  # few weights as they were drawn, and nothing is right
    off = _about_threshold(case, low)
    if case.answer.kind == "labels":
        _about_labels(case, probabilities, low)
    same, limit = answers.same_answer(probabilities), LIMITS["constant_answer"]
    constant = same > limit and np.bincount(labels).max() < 0.9 * len(labels)
    biased = off and answers.spread(probabilities) > DIFFER  # it tells them apart, and is off
    message = f"{same:.1%} of the photos get the same answer."
    verdict = "fine" if not constant else "suspicious" if explained or biased else "fault"
    case.add("constant_answer", verdict, message, same, limit)
    sure = answers.saturated_answer(probabilities, labels)
    limit = LIMITS["saturated_answer"]
    message = f"{sure.count} answers are at least 99.9 % sure, and {sure.wrong} of them are wrong."
    verdict = "fault" if sure.count >= 20 and sure.low > limit else "fine"
    if explained or case.has("class_order", "at_chance", "constant_answer"):
        verdict = "suspicious" if verdict == "fault" else verdict
    case.add("saturated_answer", verdict, message, sure.low, limit)
    confidence = answers.overconfident(probabilities, labels)
    limit = LIMITS["overconfident"]
    message = f"It is {confidence.mean:.1%} sure on average, and right {confidence.accuracy:.1%}."
    worse = confidence.low > limit
    verdict = "suspicious" if confidence.low > 0.4 * limit else "fine"
    if worse and not explained and not case.has("class_order", "threshold", "at_chance"):
        verdict = "fault"
    case.add("overconfident", verdict, message, confidence.low, limit)


def _about_cut_photos(case):
    """Whether photos that seem to be cut short are right less often than the others."""
    cut, right = photos.cut_short(case.given[0]), case.logits.argmax(1) == case.labels
    share, limit = float(cut.mean()), LIMITS["blank_photos"]
    if share <= limit or case.has("blank_photos"):
        return
    fewer = photos.fewer(right, cut) < photos.CHANCE
    message = f"{cut.sum()} of {len(cut)} photos have nothing on their lowest quarter"
    if not cut.all():
        message += f"; {right[cut].mean():.1%} of them are right, and {right[~cut].mean():.1%} else"
    case.add("blank_photos", "fault" if fewer else "suspicious", message + ".", share, limit)


def _promote(case, cause):
    """What was suspicious is a fault."""
    _changed(case, (cause,), "suspicious", "fault")


def _demote(case, *causes):
    """What were faults are suspicious only, since another one explains them."""
    _changed(case, causes, "fault", "suspicious")


def _changed(case, causes, before, after):
    for finding in tuple(case.findings):
        if finding.cause in causes and finding.verdict == before:
            case.add(finding.cause, after, finding.message, finding.value, finding.limit)


def _about_threshold(case, low):
    """Whether another threshold, or another bias of each class, makes many more answers right."""
    labels, limit = case.labels, LIMITS["threshold"]
    other = answers.threshold(case.logits, labels)
    gain = other.possible - other.accuracy
    excess = np.array(other.shares) - np.bincount(labels, minlength=len(other.shares)) / len(labels)
    k = int(excess.argmax())
    beyond = LESS if excess[k] > LEANS else SURE
    uneven = excess[k] > UNEVEN or gain > ANYWAY * other.error
    clear = gain > beyond * other.error and (case.answer.classes == 2 or uneven)
    off = gain > limit and other.plain >= 0 and clear and low > inputs.KNOWS
    message = (
        f"Of each class {other.accuracy:.1%} are right in the mean, and {other.possible:.1%} with "
        "another threshold; class "
        f"{k} is answered {other.shares[k]:.0%} of the time, and is there "
        f"{other.shares[k] - excess[k]:.0%}."
    )
    verdict = "fine"
    if off:
        explained = case.has("no_activation", "dead_filters", "batch_statistics")
        verdict = "suspicious" if explained or case.alike else "fault"
    linear = case.answer.kind == "sigmoid" and not case.answer.applied
    root = case.has("untrained_layer", "at_chance")
    cut = off and other.shifts[1] / -2
    if linear and not root and answers.is_probability(case.logits[:, 1], cut):
        message = "It is linear, and its answers lie around 0 to 1: it was trained to be a "
        message += "probability, so that one half is its threshold, and not 0."
        case.add("output_head", "fault", message)
        verdict = "suspicious" if off else "fine"
    case.add("threshold", verdict, message, gain, limit)
    return off


def _about_labels(case, probabilities, low):
    """Whether a sigmoid for each class says yes to one of them: each photo has one label."""
    total, limit = float(probabilities.sum(1).mean()), LIMITS["yes"]
    if total > limit and low > inputs.KNOWS:
        message = (
            f"Its answers, a sigmoid for each class, add up to {total:.2f} in the mean, though one "
            "class is right: its loss had a softmax behind them, or takes several labels."
        )
        case.add("output_head", "fault", message, total, limit)


def about_photos(case):
    """What the photos have to do with it."""
    labels, train = case.labels, case.train
    if case.accuracy is None:
        return
    right = case.logits.argmax(1) == labels
    noise = photos.label_noise(case.logits, labels)
    roots = "not_finite", "untrained_layer", "batch_statistics", "class_order", "constant_answer"
    able = not (case.alike or case.has("at_chance", *roots))
    able = able and case.skill >= inputs.KNOWS + 0.05
    limit = LIMITS["label_noise"]
    clear = noise.low > limit and noise.near < HESITATES
    least = LIKELIER if case.has("saturated_answer", "overconfident") else EXPLAINS
    mislabelled = able and (clear or (noise.share > limit and noise.gain > least))
    if train is not None:
        copies = case.copies = photos.leak(case.photos, train[0])
        share, limit = len(copies) / len(labels), LIMITS["leak"]
        mirrored = sum(copy.mirrored for copy in copies)
        message = f"{len(copies)} of the photos were trained on, {mirrored} of them mirrored."
        verdict = "fault" if share > limit and len(copies) > 1 else "suspicious"
        case.add("leak", verdict if copies else "fine", message, share, limit)
        trained = case.alike(np.float32(train[0])) if case.alike else train[0]
        logits = inputs.ask(case.model, trained, case.value_range, case.output)
        memory = photos.memorised(logits.argmax(1) == train[1], train[1], right, labels)
        message = (
            f"Of the photos trained on {memory.trained:.1%} are right, else {memory.others:.1%}."
        )
        limit = LIMITS["memorised"]
        verdict = "fault" if memory.low > limit else "suspicious" if memory.low > 0.03 else "fine"
        if verdict == "fault" and mislabelled:  # each looks like the other
            mislabelled = noise.ratio > EVEN or noise.gain > 2 * EXPLAINS
            verdict = "suspicious" if mislabelled else verdict
        case.add("memorised", verdict, message, memory.low, limit)
        _about_balance(case, train[1])
        if case.has("memorised"):
            _demote(case, "at_chance")  # it has learned, though not what others need
    if not able or case.has("shortcut"):
        return
    message = (
        f"Of the {noise.count} photos of which it is surest, {noise.wrong} have another label: "
        f"{noise.ratio:.2f} times as many as of those of which it is least sure. The most probable "
        f"share of wrong labels is {noise.share:.1%}."
    )
    verdict = "fault" if mislabelled else "fine"
    value = noise.low if clear else noise.share
    case.add("label_noise", verdict, message, value, LIMITS["label_noise"])
    case.mislabelled = noise.surest[:8]
    losses = photos.shortcut(
        case.model, case.photos, labels, case.value_range, case.output, case.logits
    )
    if _about_losses(case, losses):
        return
    twins = LIMITS["twins" if len(np.unique(labels)) <= 4 else "twins of many"]
    patches = photos.transplant(
        case.model, case.photos, labels, case.value_range, case.output, case.logits, twins
    )
    marked = {patch.label for patch in patches if patch.twins >= twins}
    if marked:
        case.patch, limit = patches[0], photos.TURNS_MOST
        rows, columns = case.patch.rows, case.patch.columns
        message = (
            f"A square of a photo of class {case.patch.label}, from pixel {columns.start} of row "
            f"{rows.start} on, turns {case.patch.turned:.0%} of the photos of other classes into "
            f"that class; so do {case.patch.twins} others, alike or at the same place or edge."
        )
        verdict, alike = "fault", {patch.label for patch in patches if patch.twins}
        if len(alike) > len({patch.label for patch in patches}) / 2:
            message += " Squares of most classes do: the things themselves may look all the same."
            verdict = "suspicious"
        case.add("shortcut", verdict, message, case.patch.turned, limit)


def _about_balance(case, trained):
    """Whether a net that answers one class only has learned of its training how frequent it is;
    then that explains the rest.
    """
    answered = case.logits.argmax(1)
    k = int(np.bincount(answered).argmax())
    share, here = np.mean(trained == k), np.mean(case.labels == k)
    constant = np.mean(answered == k) > LIMITS["constant_answer"]
    if not (constant and share > MOST and share > here + UNEVEN):
        return
    message = (
        f"Class {k} is the answer to (nearly) all photos. It is {share:.0%} of those that were "
        f"trained on, and {here:.0%} of these."
    )
    case.add("threshold", "fault", message, share - here, UNEVEN)
    _demote(case, "constant_answer", "at_chance", "dead_filters")


def _about_losses(case, losses):
    """Whether what an intervention costs shows a shortcut; the worst one is told."""
    limit, excess = LIMITS["shortcut"], {}
    for what, loss in losses.items():
        if loss.cue is not None:
            excess[what] = loss.low - 0.5 * limit
        elif what in photos.INSTEAD:
            middle = losses[photos.INSTEAD[what]]
            more = (loss.accuracy - loss.left) - (middle.accuracy - middle.left)
            excess[what] = min(loss.low - limit, more)
    if not excess:
        return False
    worst = max(excess, key=excess.get)
    loss = losses[worst]
    message = (
        f"With the {worst}, {loss.left:.1%} are right instead of {loss.accuracy:.1%}; class "
        f"{loss.worst[0]} loses {loss.worst[1]:.1%}."
    )
    if worst in photos.INSTEAD:
        middle = losses[photos.INSTEAD[worst]]
        message += f" As much of the middle costs {middle.accuracy - middle.left:.1%}."
    if loss.cue is not None:
        message += f" By itself it tells the classes apart with a skill of {loss.cue:.2f}."
    if excess[worst] > 0:
        case.intervention = worst
    case.add("shortcut", "fault" if excess[worst] > 0 else "fine", message, loss.low, limit)
    return excess[worst] > 0


# -------------------------------------------------------------------------------- command line


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", help="a .keras or .h5 file")
    parser.add_argument("photos", help="a folder with a folder of photos for each class")
    parser.add_argument("--train", help="a folder of the same kind: photos it was trained on")
    parser.add_argument("--value-range", nargs="+", default=["0", "255"], metavar="VALUE")
    parser.add_argument("--classes", nargs="+", help="names in the order of the net's answer")
    parser.add_argument("--limit", type=int, default=500, help="photos at most (500)")
    parser.add_argument("--output", help="of several outputs: its name or number")
    parser.add_argument("--json", type=Path, help="a file for the report")
    parser.add_argument("--html", type=Path, help="a file for the report with pictures")
    args = parser.parse_args(arguments)
    try:
        case, classes, train = case_of(args)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    report = case.report()
    print_report(report)
    if args.json:
        args.json.write_text(as_json(report))
    if args.html:
        args.html.write_text(page.page(case, report, classes, train))
    return int(any(finding.verdict == "fault" for finding in report["findings"]))


def case_of(args):
    """The Case that the command line names, the names of its classes, and what it trained on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = debugcnn.load_model(args.model)
    value_range = args.value_range
    value_range = value_range[0] if len(value_range) == 1 else tuple(map(float, value_range))
    output = int(args.output) if args.output and args.output.isdigit() else args.output
    *size, channels = debugcnn.image_shape(model)
    classes = debugcnn.classifier_head(model, output).classes
    each = max(1, args.limit // max(1, len(debugcnn.class_folders(args.photos))))

    def read(folder):
        files, labels, folders = debugcnn.labelled_files(folder, each)
        numbers, _ = debugcnn.class_numbers(folders, args.classes, classes)
        whole = [debugcnn.is_readable(file) for file in files]
        if not all(whole):
            print(f"{len(files) - sum(whole)} photos in {folder} cannot be read, and are left out.")
        return [file for file, fits in zip(files, whole) if fits], numbers[labels[whole]]

    files, labels = read(args.photos)
    folders = [f.name for f in debugcnn.class_folders(args.photos)]
    names = args.classes or (folders if len(folders) == classes else map(str, range(classes)))
    names = list(names)
    shown, _ = debugcnn.load_images(files, size, channels)
    ways = {
        "taking the nearest pixel": dict(resample="nearest"),
        "a crop from the middle": dict(way="crop"),
        "padding": dict(way="pad"),
    }
    ways = {way: debugcnn.load_images(files, size, channels, **how)[0] for way, how in ways.items()}
    train = None
    if args.train:
        files, trained = read(args.train)
        train = debugcnn.load_images(files, size, channels)[0], trained
    bar = lambda steps: tqdm(steps, desc="examining", unit=" steps", disable=None)  # noqa: E731
    case = examine(model, shown, labels, train, value_range, output, ways, bar)
    return case, names, train


def as_json(report):
    findings = [finding._asdict() for finding in report["findings"]]
    return json.dumps(report | {"findings": findings}, indent=1) + "\n"


def print_report(report):
    accuracy = report["accuracy"]
    print(f"{report['photos']} photos" + ("" if accuracy is None else f", {accuracy:.1%} right"))
    for finding in report["findings"]:
        if finding.verdict != "fine":
            print(f"{finding.verdict:<11}{finding.cause:<20}{finding.message}")
            if finding.remedy:
                print(f"{'':<31}{finding.remedy}")
    fine = [finding.cause for finding in report["findings"] if finding.verdict == "fine"]
    print(f"fine: {', '.join(fine)}")


if __name__ == "__main__":
    sys.exit(main())
