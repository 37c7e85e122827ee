"""What is timed of the three views: ours, and each peer as its own documentation shows it.

Every function here sets a contender up and returns the work that is timed, which returns what it
made. Each runs in a process of its own.
"""

from functools import partial
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "upright.keras"
EVERY = 10  # one filter in so many is drawn by the peers


def _model(name):
    import keras

    if name == "ours":
        return keras.models.load_model(MODEL, compile=False)
    keras.utils.set_random_seed(0)
    return keras.applications.MobileNetV2(weights=None)  # 224 x 224, 1000 classes


def _photos(model, low=0, high=255):
    """64 photos as the model takes them: made up, as speed does not depend on what they show."""
    import numpy as np

    shape = (64, *model.input_shape[1:])
    return np.random.default_rng(0).uniform(low, high, shape).astype(np.float32)


# What Grad-CAM reads: the last layer that returns a map.
LAST = {"ours": "add3", "mobilenet": "out_relu"}
RANGE = {"ours": (0, 255), "mobilenet": (-1, 1)}


def _setting(name, count=None):
    """The model, and all photos or the first few."""
    model = _model(name)
    return model, _photos(model, *RANGE[name])[:count]


# -------------------------------------------------------------------------------- forward passes


def forward(name):
    """model.predict, compiled: what most people call a forward pass."""
    model, photos = _setting(name)
    return lambda: model.predict(photos, batch_size=32, verbose=0)


def forward_graph(name):
    """The same without what predict adds, such as XLA: tf.function(model), 32 photos at a time."""
    import tensorflow as tf

    model, photos = _setting(name)
    run = tf.function(lambda batch: model(batch, training=False), autograph=False)
    return lambda: [run(tf.constant(photos[i : i + 32])).numpy() for i in (0, 32)]


# ------------------------------------------------------------------------- ours, of every method

SAMPLES = 12  # of SmoothGrad, and steps of integrated gradients: ours and the peers'
NOISE = 0.15  # of SmoothGrad, times the width of the range of values
SOME, FEW = 8, 2  # images, for the slower methods
PATCH = 16  # pixels: the side of the square that occludes the image, and from one to the next
MASKS = 256  # of RISE
CELLS = 7  # of a mask of RISE, on a side
READ_A_LAYER = {"grad_cam", "grad_cam_plus_plus", "hires_cam", "layer_cam", "score_cam"}
OPTIONS = {  # of the functions, where the comparison with the peers needs others than the defaults
    "smooth_grad": {"samples": SAMPLES, "noise": NOISE},
    "integrated_gradients": {"steps": SAMPLES},
    "integrated_gradients_from_blur": {"steps": SAMPLES},
    "occlusion": {"size": PATCH, "stride": PATCH},
    "rise": {"samples": MASKS, "cells": CELLS},
}
COUNTS = {  # images; all of them otherwise
    "smooth_grad": SOME,
    "integrated_gradients": SOME,
    "integrated_gradients_from_blur": SOME,
    "score_cam": FEW,
    "occlusion": FEW,
    "rise": FEW,
}


def heatmap_functions():
    """{name: function} of all registered heatmap methods."""
    import debugcnn

    functions = [method.function for method in debugcnn.HEATMAP_METHODS.values()]
    return {function.__name__: function for function in functions}


def heatmap_method(function, name):
    """A registered heatmap method of the predicted class, all images in one call."""
    model, photos = _setting(name, COUNTS.get(function))
    explain = heatmap_functions()[function]
    layer = {"layer": LAST[name]} if function in READ_A_LAYER else {}
    return lambda: explain(model, photos, **layer, **OPTIONS.get(function, {}))


# -------------------------------------------------------------------------------- Grad-CAM, peers


def _predicted(model, photos):
    answers = model.predict(photos, verbose=0)
    return answers.argmax(1) if answers.shape[1] > 1 else (answers[:, 0] > 0.5).astype(int)


def _score(model, photos):
    """What tf-keras-vis explains: the predicted class of each photo."""
    from tf_keras_vis.utils.scores import BinaryScore, CategoricalScore

    answers = _predicted(model, photos)
    score = CategoricalScore if model.output_shape[1] > 1 else BinaryScore
    return score(answers.tolist())


def cam_tf_keras_vis(module, kind, name):
    """Gradcam or a like with ReplaceToLinear, as in its README, all photos in one call."""
    from tf_keras_vis.utils.model_modifiers import ReplaceToLinear

    model, photos = _setting(name)
    score = _score(model, photos)
    explain = getattr(import_module(f"tf_keras_vis.{module}"), kind)
    explain = explain(model, model_modifier=ReplaceToLinear(), clone=True)
    layer = dict(penultimate_layer=LAST[name], seek_penultimate_conv_layer=False)
    return lambda: explain(score, photos, **layer)


def grad_cam_tf_explain(name):
    """GradCAM().explain: of one class for all photos, guided, and drawn as a grid of overlays."""
    from tf_explain.core.grad_cam import GradCAM

    model, photos = _setting(name)
    kind = 0
    return lambda: GradCAM().explain((photos, None), model, kind, layer_name=LAST[name])


def grad_cam_keras_docs(name):
    """The example of the Keras documentation, written afresh: photo by photo, a tape, no graph."""
    import keras
    import numpy as np
    import tensorflow as tf

    model, photos = _setting(name)
    both = keras.Model(model.inputs, [model.get_layer(LAST[name]).output, model.output])

    def heatmap(photo):
        with tf.GradientTape() as tape:
            maps, answers = both(photo)
            score = answers[:, tf.argmax(answers[0])]
        weights = tf.reduce_mean(tape.gradient(score, maps), axis=(0, 1, 2))
        heat = tf.maximum(tf.linalg.matvec(maps[0], weights), 0)
        return (heat / tf.reduce_max(heat)).numpy()

    return lambda: np.stack([heatmap(photo[None]) for photo in photos])


def xplique(method, options, count, name):
    """An explainer of xplique, set up once, as in its documentation, all photos in one call."""
    import numpy as np
    import xplique.attributions

    model, photos = _setting(name, count)
    targets = np.ones((len(photos), 1), np.float32)  # the net's one unit
    explain = getattr(xplique.attributions, method)(model, **options)
    return lambda: explain(photos, targets).numpy()


# --------------------------------------------------------------- heatmaps, pixel by pixel, peers


def smooth_grad_tf_keras_vis(name):
    """Saliency with ReplaceToLinear and smooth_samples, as in its README, all in one call."""
    from tf_keras_vis.saliency import Saliency
    from tf_keras_vis.utils.model_modifiers import ReplaceToLinear

    model, photos = _setting(name, SOME)
    score = _score(model, photos)
    explain = Saliency(model, model_modifier=ReplaceToLinear(), clone=True)
    return lambda: explain(score, photos, smooth_samples=SAMPLES, smooth_noise=NOISE)


def smooth_grad_tf_explain(name):
    """SmoothGrad().explain, all photos and copies in one batch, drawn as a grid."""
    from tf_explain.core.smoothgrad import SmoothGrad

    model, photos = _setting(name, SOME)
    options = dict(num_samples=SAMPLES, noise=NOISE * 255)
    kind = 0
    return lambda: SmoothGrad().explain((photos, None), model, kind, **options)


def integrated_gradients_tf_explain(name):
    """IntegratedGradients().explain, all photos and steps in one batch, drawn as a grid."""
    from tf_explain.core.integrated_gradients import IntegratedGradients

    model, photos = _setting(name, SOME)
    kind = 0
    return lambda: IntegratedGradients().explain((photos, None), model, kind, n_steps=SAMPLES)


# --------------------------------------------------------------- heatmaps, by perturbation, peers


def score_cam_tf_keras_vis(name):
    """Scorecam of all channels, which its documentation runs on the model as it is."""
    from tf_keras_vis.scorecam import Scorecam

    model, photos = _setting(name, FEW)
    score = _score(model, photos)
    layer = dict(penultimate_layer=LAST[name], seek_penultimate_conv_layer=False)
    return lambda: Scorecam(model)(score, photos, max_N=-1, **layer)


def occlusion_tf_explain(name):
    """OcclusionSensitivity().explain, whose squares lie side by side, drawn as overlays."""
    from tf_explain.core.occlusion_sensitivity import OcclusionSensitivity

    model, photos = _setting(name, FEW)
    kind = 0
    return lambda: OcclusionSensitivity().explain((photos, None), model, kind, PATCH)


# ---------------------------------------------------------------------------------- activations


def activations(name):
    """debugcnn.activations of every convolution and pooling layer, in one call."""
    import debugcnn.quiet

    model, photos = _setting(name)
    return lambda: debugcnn.activations(model, photos)


def _layers(model):
    import debugcnn.quiet

    kinds = debugcnn.CONVOLUTIONS + debugcnn.POOLINGS
    return [layer for layer in model.layers if isinstance(layer, kinds)]


def activations_one_model(name):
    """A keras.Model with the same layers as outputs, built once, and its predict: the textbook."""
    import keras

    model, photos = _setting(name)
    outputs = keras.Model(model.inputs, [layer.output for layer in _layers(model)])
    return lambda: outputs.predict(photos, batch_size=32, verbose=0)


def activations_model_per_layer(name):
    """A keras.Model for each layer, all built once, and their predict in turn."""
    import keras

    model, photos = _setting(name)
    models = [keras.Model(model.inputs, layer.output) for layer in _layers(model)]
    return lambda: [one.predict(photos, batch_size=32, verbose=0) for one in models]


# ------------------------------------------------------------------------------- filter patterns

STEPS = 24  # of gradient ascent, ours and the peers'


def _amount(drawn):
    """Of `drawn`, {layer: (indices of filters, their patterns)}."""
    return {"amount": sum(len(chosen) for chosen, _ in drawn.values())}


def _sample(model):
    """Every 10th filter of each convolution, {layer: indices}, and {layer: what is climbed}."""
    import numpy as np

    import debugcnn.quiet

    layers = debugcnn.convolution_layers(model)
    chosen = {layer: np.arange(0, model.get_layer(layer).filters, EVERY) for layer in layers}
    return chosen, {layer: debugcnn.objective(model, layer).layer for layer in layers}


def patterns(name):
    """debugcnn.filter_patterns, layer by layer, all filters."""
    import numpy as np

    import debugcnn.quiet

    model = _model(name)

    def work():
        return {
            layer: (
                np.arange(model.get_layer(layer).filters),
                debugcnn.filter_patterns(model, layer, steps=STEPS)[0],
            )
            for layer in debugcnn.convolution_layers(model)
        }

    return work, _amount


def patterns_tf_keras_vis(name, options=dict):
    """ActivationMaximization as in its README, all chosen filters of a layer in one batch."""
    import tensorflow as tf
    from tf_keras_vis.activation_maximization import ActivationMaximization
    from tf_keras_vis.utils.model_modifiers import ExtractIntermediateLayer, ReplaceToLinear
    from tf_keras_vis.utils.scores import CategoricalScore

    model = _model(name)
    sample, climbed = _sample(model)

    def work():
        drawn = {}
        for layer, chosen in sample.items():
            modifiers = [ExtractIntermediateLayer(climbed[layer]), ReplaceToLinear()]
            maximize = ActivationMaximization(model, model_modifier=modifiers, clone=False)
            seeds = tf.random.uniform((len(chosen), *model.input_shape[1:]), 0, 255)
            score = CategoricalScore(chosen.tolist())
            drawn[layer] = chosen, maximize(score, seed_input=seeds, steps=STEPS, **options())
        return drawn

    return work, _amount


def patterns_tf_keras_vis_tuned(name):
    """The same set for our net: no penalties and no movement, whose scale suits VGG16, and an
    optimizer without the constant beside which our small gradients would not count.
    """
    import tensorflow as tf

    def options():
        optimizer = tf.optimizers.RMSprop(1.0, 0.999, epsilon=1e-20)
        return dict(regularizers=[], input_modifiers=[], optimizer=optimizer)

    return patterns_tf_keras_vis(name, options)


def patterns_eager_loop(name):
    """The loop of the textbook, written afresh: filter by filter, a tape, no graph.

    Chollet, Deep Learning with Python, 2nd edition 2021, section 9.4.2: the mean response without
    the border, a normalised gradient, a step of 10 (here times 127.5, as our pixels run from 0 to
    255 and those of the book's net from -1 to 1), and a contrast that is set at the end.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    model = _model(name)
    sample, climbed = _sample(model)

    def pattern(part, k):
        image = tf.random.uniform((1, *model.input_shape[1:]), 0.4 * 255, 0.6 * 255)
        for _ in range(STEPS):
            with tf.GradientTape() as tape:
                tape.watch(image)
                response = tf.reduce_mean(part(image)[:, 2:-2, 2:-2, k])
            image += 10 * 127.5 * tf.math.l2_normalize(tape.gradient(response, image))
        image = (image - tf.reduce_mean(image)) / tf.math.reduce_std(image)
        return np.clip(64 * image[0] + 128, 0, 255)

    def work():
        drawn = {}
        for layer, chosen in sample.items():
            part = keras.Model(model.inputs, model.get_layer(climbed[layer]).output)
            drawn[layer] = chosen, np.stack([pattern(part, k) for k in chosen])
        return drawn

    return work, _amount


# ------------------------------------------------------------- what the patterns are worth, untimed

SEEN = ("conv4", "conv5", "conv6", "conv7", "conv8", "conv9", "conv10")  # 25 pixels and more
PHOTOS = 500  # from the validation split, and HOSTS others, into which patterns are pasted
HOSTS = 8


def passes(data):
    """The rows of what people draw: {contender: {"passes": share, "tries": n}}.

    A pattern passes in a photo if, pasted into it by `debugcnn.pasted_responses`, it moves its
    filter more than 99 of 100 of PHOTOS do. Photos that do that by themselves are not counted.
    """
    import keras
    import numpy as np

    import debugcnn.quiet

    ours = _model("ours")
    keras.utils.set_random_seed(0)
    untrained = keras.models.clone_model(ours)
    side = ours.input_shape[1]
    files = [debugcnn.image_files(Path(data, "validation", kind)) for kind in ("cats", "dogs")]
    some = [f for kind in files for f in kind[: PHOTOS // 2]]
    photos, _ = debugcnn.load_images(some, side)
    hosts, _ = debugcnn.load_images([f for kind in files for f in kind[-HOSTS // 2 :]], side)

    def drawn_by_us(model, **options):
        chosen, _ = _sample(model)
        return {
            layer: (
                chosen[layer],
                debugcnn.filter_patterns(model, layer, chosen[layer], **options)[0],
            )
            for layer in SEEN
        }

    contenders = {
        "ours": (ours, lambda: drawn_by_us(ours)),
        "ours, plain ascent": (ours, lambda: drawn_by_us(ours, jitter=0, decorrelate=False)),
        "ours, of the net before training": (untrained, lambda: drawn_by_us(untrained)),
    }
    for label, contender in list(PATTERNS.items())[1:]:
        contenders[label] = ours, contender("ours")[0]
    limits, rows = {}, {}
    for label, (model, draw) in contenders.items():
        won = tries = 0
        for layer, (chosen, patterns) in draw().items():
            if layer not in SEEN:
                continue
            if (key := (id(model), layer)) not in limits:
                limits[key] = np.quantile(debugcnn.responses(model, photos, layer), 0.99, axis=0)
            limit = limits[key][chosen, None]
            patterns = np.clip(np.asarray(patterns, np.float32), 0, 255)
            pasted = debugcnn.pasted_responses(model, layer, chosen, patterns, hosts)
            counted = limit > debugcnn.responses(model, hosts, layer)[:, chosen].T
            won += int(np.sum((pasted > limit) & counted))
            tries += int(np.sum(counted))
        rows[label] = {"passes": won / tries, "tries": tries}
        print(f"{label}: {won / tries:.1%} of {tries:,}", flush=True)
    return rows


# ------------------------------------------------------------------------------------- the rows

HEATMAP_PEERS = {
    "grad_cam": {
        "a forward pass, `model.predict`": forward,
        "a forward pass, `tf.function(model)`": forward_graph,
        "tf-keras-vis": partial(cam_tf_keras_vis, "gradcam", "Gradcam"),
        "tf-explain": grad_cam_tf_explain,
        "the loop of the Keras documentation": grad_cam_keras_docs,
    },
    "grad_cam_plus_plus": {
        "tf-keras-vis": partial(cam_tf_keras_vis, "gradcam_plus_plus", "GradcamPlusPlus"),
        "xplique": partial(xplique, "GradCAMPP", {"conv_layer": LAST["ours"]}, None),
    },
    "layer_cam": {"tf-keras-vis": partial(cam_tf_keras_vis, "layercam", "Layercam")},
    "smooth_grad": {
        "tf-keras-vis": smooth_grad_tf_keras_vis,
        "tf-explain": smooth_grad_tf_explain,
        "xplique": partial(
            xplique, "SmoothGrad", {"nb_samples": SAMPLES, "noise": NOISE * 255}, SOME
        ),
    },
    "integrated_gradients": {
        "tf-explain": integrated_gradients_tf_explain,
        "xplique": partial(
            xplique, "IntegratedGradients", {"steps": SAMPLES, "baseline_value": 127.5}, SOME
        ),
    },
    "guided_backpropagation": {"xplique": partial(xplique, "GuidedBackprop", {}, None)},
    "score_cam": {"tf-keras-vis": score_cam_tf_keras_vis},
    "occlusion": {
        "tf-explain": occlusion_tf_explain,
        "xplique": partial(
            xplique,
            "Occlusion",
            {"patch_size": PATCH, "patch_stride": PATCH, "occlusion_value": 127.5},
            FEW,
        ),
    },
    "rise": {"xplique": partial(xplique, "Rise", {"nb_samples": MASKS, "grid_size": CELLS}, FEW)},
}


def heatmap_contenders():
    """{name of a registered heatmap method's function: its contenders}, ours first."""
    return {
        name: {"ours": partial(heatmap_method, name)} | HEATMAP_PEERS.get(name, {})
        for name in heatmap_functions()
    }


ACTIVATIONS = {
    "ours": activations,
    "a forward pass, `model.predict`": forward,
    "a forward pass, `tf.function(model)`": forward_graph,
    "one model with all outputs": activations_one_model,
    "a model per layer": activations_model_per_layer,
}
PATTERNS = {
    "ours": patterns,
    "tf-keras-vis": patterns_tf_keras_vis,
    "tf-keras-vis, tuned": patterns_tf_keras_vis_tuned,
    "the loop of the textbook": patterns_eager_loop,
}
