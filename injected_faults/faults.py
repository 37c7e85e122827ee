"""Faults that are planted, each by a few lines, and the causes that are right answers to them.

The right answers were written down before the first run. A fault is a function of a `Bench`, which
keeps the photos and trains, and of a sound net (where it is planted by training: of the function
that builds one); it returns what `diagnose.diagnose` is given.
"""

import cv2
import keras
import numpy as np
from keras import layers

from . import nets

# ----------------------------------------------------------------- in the program around the net


def fed(value_range):
    """The net needs 0 to 1 and gets other values."""
    return lambda bench, net: dict(model=net, value_range=value_range)


def bgr(bench, net):
    return dict(model=net, photos=bench.photos[..., ::-1])


def turned(quarters):
    return lambda bench, net: dict(model=net, photos=np.rot90(bench.photos, quarters, (1, 2)))


def resized(way):
    """The photos are brought to the net's size in another way than in training, `way`."""

    def plant(bench, net):
        large = bench.large()
        ways = {name: np.stack([one(photo) for photo in large]) for name, one in WAYS.items()}
        return dict(model=net, photos=np.float32(ways.pop(way)), ways=ways)

    return plant


def squeezed(photo, height=nets.SIDE, how=cv2.INTER_AREA):
    return cv2.resize(photo, (nets.SIDE, height), interpolation=how)


def padded(photo, height=nets.SIDE * 5 // 8):
    """As a wide photo, with black bars above and below."""
    bar = (nets.SIDE - height) // 2
    edges = ((bar, nets.SIDE - height - bar), (0, 0), (0, 0))
    return np.pad(squeezed(photo, height), edges)


def cut(photo):
    """The pixels in the middle, as many as the net takes."""
    y, x = ((side - nets.SIDE) // 2 for side in photo.shape[:2])
    return photo[y : y + nets.SIDE, x : x + nets.SIDE]


WAYS = {
    "squeezing the whole": squeezed,
    "taking the nearest pixel": lambda photo: squeezed(photo, how=cv2.INTER_NEAREST),
    "padding": padded,
    "cutting": cut,
}


def classes_exchanged(bench, net):
    return dict(model=net, labels=1 - bench.labels)


def labels_of_another_shuffle(bench, net):
    return dict(model=net, labels=np.random.default_rng(bench.seed).permutation(bench.labels))


def wrong_labels(share):
    """A share of the examined photos has the other label."""

    def plant(bench, net):
        wrong = np.random.default_rng(bench.seed).random(len(bench.labels)) < share
        return dict(model=net, labels=np.where(wrong, 1 - bench.labels, bench.labels))

    return plant


def wrong_in_one_class(share):
    """A share of the dogs is labelled as cats."""

    def plant(bench, net):
        wrong = np.random.default_rng(bench.seed).random(len(bench.labels)) < share
        return dict(model=net, labels=np.where(wrong, 0, bench.labels))

    return plant


def copies(share, mirrored=False):
    """A share of the examined photos was trained on."""

    def plant(bench, net):
        photos, count = bench.photos.copy(), round(share * len(bench.photos))
        some = np.random.default_rng(bench.seed).choice(len(bench.train[0]), count, replace=False)
        trained = bench.train[0][some]
        photos[:count] = trained[:, :, ::-1] if mirrored else trained
        labels = np.r_[bench.train[1][some], bench.labels[count:]]
        given = np.union1d(some, np.arange(0, len(bench.train[0]), 5))
        return dict(
            model=net,
            photos=photos,
            labels=labels,
            train=(bench.train[0][given], bench.train[1][given]),
        )

    return plant


# ----------------------------------------------------------------------- in the weights of the net


def edited(change):
    """A copy of the net with some weights changed."""

    def plant(bench, net):
        copy = keras.models.clone_model(net)
        copy.set_weights(net.get_weights())
        return dict(model=change(copy, np.random.default_rng(bench.seed)) or copy)

    return plant


def of_kind(net, kind):
    return [layer for layer in net.layers if isinstance(layer, kind)]


def not_a_number(net, generator):
    kernel, *rest = of_kind(net, layers.Conv2D)[1].get_weights()
    kernel[..., 3] = np.nan
    of_kind(net, layers.Conv2D)[1].set_weights([kernel, *rest])


def zeroed(net, generator):
    layer = of_kind(net, layers.Conv2D)[-1]
    layer.set_weights([0 * weight for weight in layer.get_weights()])


def drawn_again(net, generator):
    layer = of_kind(net, layers.Conv2D)[-1]
    keras.utils.set_random_seed(int(generator.integers(2**31)))  # of what is drawn
    fresh = type(layer).from_config(layer.get_config())
    fresh.build(layer.input.shape)
    layer.set_weights(fresh.get_weights())


def biased(by):
    def change(net, generator):
        kernel, bias = net.layers[-1].get_weights()
        bias[-1] += by
        net.layers[-1].set_weights([kernel, bias])

    return change


def hot(times):
    def change(net, generator):
        net.layers[-1].set_weights([times * weight for weight in net.layers[-1].get_weights()])

    return change


def statistics_forgotten(net, generator):
    for layer in of_kind(net, layers.BatchNormalization):
        layer.moving_mean.assign(np.zeros(layer.moving_mean.shape))
        layer.moving_variance.assign(np.ones(layer.moving_variance.shape))


@keras.saving.register_keras_serializable("bugs")
class AlwaysTraining(layers.BatchNormalization):
    """Forgets to ask whether it is trained. (Keras 3 itself overrules a layer that was called with
    training=True, but not what a layer of one's own does.)
    """

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=True, mask=mask)


@keras.saving.register_keras_serializable("bugs")
class AlwaysDropout(layers.Dropout):
    """Forgets to ask whether it is trained."""

    def call(self, inputs, training=None):
        return super().call(inputs, training=True)


def training_mode(net, generator):
    def clone(layer):
        norm = isinstance(layer, layers.BatchNormalization)
        return (AlwaysTraining if norm else type(layer)).from_config(layer.get_config())

    copy = keras.models.clone_model(net, clone_function=clone)
    copy.set_weights(net.get_weights())
    return copy


def dropout_always_on(net, generator):
    return keras.Model(net.inputs, net.layers[-1](AlwaysDropout(0.5)(net.layers[-2].output)))


def softmax_on_top(net, generator):
    inputs, answer = net.inputs, net.outputs[0]
    if answer.shape[-1] == 1:
        answer = layers.Concatenate()([1 - answer, answer])
    return keras.Model(inputs, layers.Softmax()(answer))


# --------------------------------------------------------------------------------------- trained

BLUE = (20, 60, 200)


def marked(photos, some, place="bottom right", generator=None):
    """A blue square of 10 pixels on some of the photos."""
    changed = photos.copy()
    for i in np.flatnonzero(some):
        y, x = (50, 50) if place == "bottom right" else generator.integers(0, 54, 2)
        changed[i, y : y + 10, x : x + 10] = BLUE
    return changed


def marked_anywhere(photos, some, generator):
    return marked(photos, some, "anywhere", generator)


def compressed(photos, some, generator=None):
    changed = photos.copy()
    for i in np.flatnonzero(some):
        data = cv2.imencode(".jpg", photos[i, ..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 15])[1]
        changed[i] = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
    return changed


def bordered(photos, some, generator=None):
    changed = photos.copy()
    for edge in (np.s_[:, :3], np.s_[:, -3:], np.s_[:, :, :3], np.s_[:, :, -3:]):
        changed[edge] = np.where(np.reshape(some, (-1, 1, 1, 1)), 0, changed[edge])
    return changed


def brighter(photos, some, generator=None):
    light = np.uint8(np.clip(photos * 1.0 + 60, 0, 255))
    return np.where(np.reshape(some, (-1, 1, 1, 1)), light, photos)


def tinted(photos, some, generator=None):
    warm = np.uint8(np.clip(photos + np.array([35.0, 0, -35]), 0, 255))
    return np.where(np.reshape(some, (-1, 1, 1, 1)), warm, photos)


def greyed(photos, some, generator=None):
    grey = np.repeat(np.uint8(photos.mean(-1, keepdims=True)), 3, -1)
    return np.where(np.reshape(some, (-1, 1, 1, 1)), grey, photos)


def blurred(photos, some, generator=None):
    soft = np.stack([cv2.GaussianBlur(photo, (0, 0), 1.5) for photo in photos])
    return np.where(np.reshape(some, (-1, 1, 1, 1)), soft, photos)


def cue(change, share):
    """Something is on a share of the dogs' photos, in training and in the examined ones."""

    def plant(bench, build):
        generator = np.random.default_rng(bench.seed)
        sets, trained_on = [], (bench.train[0][::2], bench.train[1][::2])
        for photos, labels in (trained_on, (bench.photos, bench.labels)):
            some = (labels == 1) & (generator.random(len(labels)) < share)
            sets.append(change(np.uint8(photos), some, generator=generator))
        held = sets[1], bench.labels
        net = bench.fit(build, sets[0], trained_on[1], bench.epochs // 3 + 1, held)
        return dict(model=net, photos=sets[1])

    return plant


def trained(build=None, epochs=None, few=None, only=None, **options):
    """Trained in another way than the sound nets, on `few` photos, or on `only` some of them."""

    def plant(bench, sound):
        photos, labels = bench.train[0][::2], bench.train[1][::2]
        if few:
            some = np.random.default_rng(bench.seed).permutation(len(photos))[:few]
            photos, labels = photos[some], labels[some]
        if only:
            some = only(labels)
            photos, labels = photos[some], labels[some]
        net = bench.fit(build or sound, photos, labels, epochs, **options)
        every = 1 if few else 5
        return dict(model=net, train=(photos[::every], labels[::every]))

    return plant


def nine_to_one(labels):
    """All cats, and every ninth dog."""
    return np.r_[np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[::9]]


def frozen_random():
    net = nets.normalised()
    for layer in net.layers[:-1]:
        layer.trainable = isinstance(layer, layers.BatchNormalization)
    return net


# name: (kind of planting, the right answers, plant, how often it is planted for development). What
# needs a training of its own is planted in one half only: 0 is the one that is held out.
FAULTS = {
    "0 to 255 instead of 0 to 1": ("input", {"input_scale"}, fed((0, 255)), 2),
    "-1 to 1 instead of 0 to 1": ("input", {"input_scale"}, fed((-1, 1)), 2),
    "ImageNet's means instead of 0 to 1": ("input", {"input_scale"}, fed("torch"), 2),
    "divided by 255 twice": ("input", {"input_scale"}, fed((0, 1 / 255)), 2),
    "blue and red exchanged": ("input", {"channel_order"}, bgr, 3),
    "upside down": ("input", {"flipped_or_rotated"}, turned(2), 2),
    "on the side": ("input", {"flipped_or_rotated"}, turned(1), 2),
    "padded instead of squeezed": ("input", {"resize"}, resized("padding"), 2),
    "cut instead of squeezed": ("input", {"resize"}, resized("cutting"), 2),
    "classes exchanged": ("input", {"class_order"}, classes_exchanged, 3),
    "labels shuffled": ("input", {"at_chance", "label_noise"}, labels_of_another_shuffle, 3),
    "20 % of the labels wrong": ("upright", {"label_noise"}, wrong_labels(0.2), 1),
    "10 % of the labels wrong": ("upright", {"label_noise"}, wrong_labels(0.1), 1),
    "20 % of the dogs labelled as cats": (
        "upright",
        {"label_noise", "threshold"},
        wrong_in_one_class(0.2),
        1,
    ),
    "5 % of the labels wrong": ("weaker", {"label_noise"}, wrong_labels(0.05), 1),
    "a fifth was trained on": ("input", {"leak"}, copies(0.2), 2),
    "a fifth was trained on, mirrored": ("input", {"leak"}, copies(0.2, True), 2),
    "2 % were trained on": ("weaker", {"leak"}, copies(0.02), 2),
    "NaN in one filter": ("weights", {"not_finite"}, edited(not_a_number), 2),
    "the last convolution is zero": (
        "weights",
        {"dead_filters", "constant_answer", "at_chance"},
        edited(zeroed),
        2,
    ),
    "the last convolution drawn again": ("weights", {"untrained_layer"}, edited(drawn_again), 2),
    "logit + 3": ("weights", {"threshold"}, edited(biased(3)), 2),
    "logits x 6": ("weights", {"overconfident", "saturated_answer"}, edited(hot(6)), 2),
    "running means never updated": (
        "statistics",
        {"batch_statistics"},
        edited(statistics_forgotten),
        1,
    ),
    "normalisation in training mode": (
        "statistics",
        {"batch_statistics"},
        edited(training_mode),
        1,
    ),
    "dropout always on": ("weights", {"random_answer"}, edited(dropout_always_on), 2),
    "a softmax on top": ("weights", {"output_head"}, edited(softmax_on_top), 2),
    "a mark on all dogs": ("trained", {"shortcut"}, cue(marked, 1), 2),
    "a mark on half of the dogs": ("weaker", {"shortcut"}, cue(marked, 0.5), 0),
    "a mark on a tenth of the dogs": ("weaker", {"shortcut"}, cue(marked, 0.1), 0),
    "a mark anywhere on all dogs": ("trained", {"shortcut"}, cue(marked_anywhere, 1), 0),
    "a border on all dogs": ("trained", {"shortcut"}, cue(bordered, 1), 0),
    "dogs are brighter": ("trained", {"shortcut"}, cue(brighter, 1), 0),
    "dogs have a tint": ("trained", {"shortcut"}, cue(tinted, 1), 0),
    "dogs are grey": ("trained", {"shortcut"}, cue(greyed, 1), 0),
    "dogs are compressed": ("trained", {"shortcut"}, cue(compressed, 1), 0),
    "dogs are blurred": ("trained", {"shortcut"}, cue(blurred, 1), 0),
    "saved before training": ("trained", {"untrained_layer"}, trained(epochs=0), 1),
    "softmax on a single unit": (
        "trained",
        {"output_head"},
        trained(lambda: nets.classic(head="softmax"), epochs=16),
        2,
    ),
    "no activations": (
        "trained",
        {"no_activation"},
        trained(lambda: nets.classic(activation=None)),
        1,
    ),
    "learning rate 1e-7": (
        "trained",
        {"at_chance", "constant_answer", "untrained_layer"},
        trained(epochs=1, rate=1e-7),
        2,
    ),
    "nine cats to a dog": ("trained", {"threshold"}, trained(only=nine_to_one), 1),
    "learning rate 3": (
        "trained",
        {"constant_answer", "at_chance", "not_finite", "dead_filters", "exploding"},
        trained(nets.classic, epochs=2, rate=3.0),
        2,
    ),
    "constant initialisation": (
        "trained",
        {"constant_answer", "at_chance", "untrained_layer"},
        trained(lambda: nets.classic(kernel_initializer="zeros"), epochs=3),
        2,
    ),
    "200 photos, by heart": (
        "trained",
        {"memorised"},
        trained(nets.normalised, epochs=60, few=200, mirrored=False),
        1,
    ),
    "random frozen convolutions": ("trained", {"untrained_layer"}, trained(frozen_random), 1),
}
