"""What is timed of the three views: ours, and each peer as its own documentation shows it.

Every contender takes the name of a model, sets up, and returns its work, or a Task. What it needs
is imported inside, since each runs in a process of its own whose memory is measured.
"""

from functools import partial
from importlib import import_module
from pathlib import Path

from .timing import Row, Task

MODEL = Path(__file__).resolve().parents[1] / "models" / "upright.keras"
# What Grad-CAM reads: the last layer that returns a map.
LAST = {"ours": "add3", "mobilenet": "out_relu"}
RANGE = {"ours": (0, 255), "mobilenet": (-1, 1)}

SAMPLES = 12  # of SmoothGrad, and steps of integrated gradients: ours and the peers'
NOISE = 0.15  # of SmoothGrad, times the width of the value range
SOME = 8  # images for these two
FEW = 2  # images for Score-CAM, occlusion and RISE
PATCH = 16  # pixels: the side of the occluded square, and the stride
MASKS = 256  # of RISE
CELLS = 7  # of a mask of RISE, on a side
STEPS = 24  # of gradient ascent, ours and the peers'
EVERY = 10  # of so many filters, the peers draw one


def _model(name):
    import keras

    if name == "ours":
        return keras.models.load_model(MODEL, compile=False)
    keras.utils.set_random_seed(0)
    return keras.applications.MobileNetV2(weights=None)  # 224 x 224, 1000 classes


def _setting(name, count=64):
    """The model, and random images as it takes them: speed does not depend on the content."""
    import numpy as np

    model = _model(name)
    shape = (64, *model.input_shape[1:])
    images = np.random.default_rng(0).uniform(*RANGE[name], shape).astype(np.float32)
    return model, images[:count]


# -------------------------------------------------------------------------------- forward passes


def forward(name):
    """model.predict, compiled: what most people call a forward pass."""
    model, images = _setting(name)
    return lambda: model.predict(images, batch_size=32, verbose=0)


def forward_graph(name):
    """The same without what predict adds, such as XLA: tf.function(model), 32 images at a time."""
    import tensorflow as tf

    model, images = _setting(name)
    run = tf.function(lambda batch: model(batch, training=False), autograph=False)
    return lambda: [run(tf.constant(images[i : i + 32])).numpy() for i in (0, 32)]


# -------------------------------------------------------------------------------------- heatmaps


def heatmap(method, name, *, count=64, **options):
    """A method of debugcnn for the predicted class, all images in one call."""
    import debugcnn

    model, images = _setting(name, count)
    explain = getattr(debugcnn, method)
    return lambda: explain(model, images, **options)


def cam(method, name, count=64):
    """The same for a method that reads the maps of a layer: of the last layer with a map."""
    return heatmap(method, name, count=count, layer=LAST[name])


def _score(model, images):
    """What tf-keras-vis explains: the predicted class of each image."""
    from tf_keras_vis.utils.scores import BinaryScore, CategoricalScore

    outputs = model.predict(images, verbose=0)
    if outputs.shape[1] > 1:
        return CategoricalScore(outputs.argmax(1).tolist())
    return BinaryScore((outputs[:, 0] > 0.5).astype(int).tolist())


def cam_tf_keras_vis(module, kind, name):
    """Gradcam or a relative with ReplaceToLinear, as in its README, all images in one call."""
    from tf_keras_vis.utils.model_modifiers import ReplaceToLinear

    model, images = _setting(name)
    score = _score(model, images)
    explain = getattr(import_module(f"tf_keras_vis.{module}"), kind)
    explain = explain(model, model_modifier=ReplaceToLinear(), clone=True)
    layer = dict(penultimate_layer=LAST[name], seek_penultimate_conv_layer=False)
    return lambda: explain(score, images, **layer)


def smooth_grad_tf_keras_vis(name):
    """Saliency with ReplaceToLinear and smooth_samples, as in its README, all in one call."""
    from tf_keras_vis.saliency import Saliency
    from tf_keras_vis.utils.model_modifiers import ReplaceToLinear

    model, images = _setting(name, SOME)
    score = _score(model, images)
    explain = Saliency(model, model_modifier=ReplaceToLinear(), clone=True)
    return lambda: explain(score, images, smooth_samples=SAMPLES, smooth_noise=NOISE)


def score_cam_tf_keras_vis(name):
    """Scorecam of all channels, which its documentation runs on the model as it is."""
    from tf_keras_vis.scorecam import Scorecam

    model, images = _setting(name, FEW)
    score = _score(model, images)
    layer = dict(penultimate_layer=LAST[name], seek_penultimate_conv_layer=False)
    return lambda: Scorecam(model)(score, images, max_N=-1, **layer)


def tf_explain(module, kind, count, name, **options):
    """An explainer of tf-explain, class 0 for all images in one batch, drawn as a grid."""
    model, images = _setting(name, count)
    explain = getattr(import_module(f"tf_explain.core.{module}"), kind)()
    return lambda: explain.explain((images, None), model, 0, **options)


def grad_cam_tf_explain(name):
    """GradCAM().explain: guided, and drawn as a grid of overlays."""
    return tf_explain("grad_cam", "GradCAM", 64, name, layer_name=LAST[name])


def grad_cam_keras_docs(name):
    """The example of the Keras documentation, written afresh: image by image, a tape, no graph."""
    import keras
    import numpy as np
    import tensorflow as tf

    model, images = _setting(name)
    both = keras.Model(model.inputs, [model.get_layer(LAST[name]).output, model.output])

    def explain(image):
        with tf.GradientTape() as tape:
            maps, outputs = both(image)
            score = outputs[:, tf.argmax(outputs[0])]
        weights = tf.reduce_mean(tape.gradient(score, maps), axis=(0, 1, 2))
        result = tf.maximum(tf.linalg.matvec(maps[0], weights), 0)
        return (result / tf.reduce_max(result)).numpy()

    return lambda: np.stack([explain(image[None]) for image in images])


def xplique(method, options, count, name):
    """An explainer of xplique, set up once, as in its documentation, all images in one call."""
    import numpy as np
    import xplique.attributions

    model, images = _setting(name, count)
    targets = np.ones((len(images), 1), np.float32)  # the model's one unit
    explain = getattr(xplique.attributions, method)(model, **options)
    return lambda: explain(images, targets).numpy()


# ----------------------------------------------------------------------------------- activations


def activations(name):
    """debugcnn.activations of every convolution and pooling layer, in one call."""
    import debugcnn

    model, images = _setting(name)
    return lambda: debugcnn.activations(model, images)


def _layers(model):
    """The convolutions and poolings, without the global one."""
    import keras

    kinds = keras.layers.Conv2D, keras.layers.MaxPooling2D
    return [layer for layer in model.layers if isinstance(layer, kinds)]


def activations_one_model(name):
    """A keras.Model with the same layers as outputs, built once, and its predict: the textbook."""
    import keras

    model, images = _setting(name)
    outputs = keras.Model(model.inputs, [layer.output for layer in _layers(model)])
    return lambda: outputs.predict(images, batch_size=32, verbose=0)


def activations_model_per_layer(name):
    """A keras.Model for each layer, all built once, and their predict in turn."""
    import keras

    model, images = _setting(name)
    models = [keras.Model(model.inputs, layer.output) for layer in _layers(model)]
    return lambda: [part.predict(images, batch_size=32, verbose=0) for part in models]


# ------------------------------------------------------------------------------- filter patterns


def _amount(drawn):
    """Of `drawn`, {layer: (indices of filters, their patterns)}."""
    return {"amount": sum(len(chosen) for chosen, _ in drawn.values())}


def _sample(model):
    """Every 10th filter of each convolution, {layer: indices}, and {layer: what is maximized}."""
    import numpy as np

    import debugcnn

    layers = debugcnn.convolution_layers(model)
    chosen = {layer: np.arange(0, model.get_layer(layer).filters, EVERY) for layer in layers}
    return chosen, {layer: debugcnn.objective(model, layer).layer for layer in layers}


def patterns(name):
    """debugcnn.filter_patterns, layer by layer, all filters."""
    import numpy as np

    import debugcnn

    model = _model(name)

    def work():
        return {
            layer: (
                np.arange(model.get_layer(layer).filters),
                debugcnn.filter_patterns(model, layer, steps=STEPS)[0],
            )
            for layer in debugcnn.convolution_layers(model)
        }

    return Task(work, _amount)


def patterns_tf_keras_vis(name, options=dict):
    """ActivationMaximization as in its README, all chosen filters of a layer in one batch."""
    import tensorflow as tf
    from tf_keras_vis.activation_maximization import ActivationMaximization
    from tf_keras_vis.utils.model_modifiers import ExtractIntermediateLayer, ReplaceToLinear
    from tf_keras_vis.utils.scores import CategoricalScore

    model = _model(name)
    sample, maximized = _sample(model)

    def work():
        drawn = {}
        for layer, chosen in sample.items():
            modifiers = [ExtractIntermediateLayer(maximized[layer]), ReplaceToLinear()]
            maximize = ActivationMaximization(model, model_modifier=modifiers, clone=False)
            seeds = tf.random.uniform((len(chosen), *model.input_shape[1:]), 0, 255)
            score = CategoricalScore(chosen.tolist())
            drawn[layer] = chosen, maximize(score, seed_input=seeds, steps=STEPS, **options())
        return drawn

    return Task(work, _amount)


def patterns_tf_keras_vis_tuned(name):
    """The same, set for our model: without the penalties and shifts, whose scale suits VGG16, and
    with an optimizer without the constant next to which our small gradients would not count.
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
    255 and those of the book's model from -1 to 1), and a contrast that is set at the end.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    model = _model(name)
    sample, maximized = _sample(model)

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
            part = keras.Model(model.inputs, model.get_layer(maximized[layer]).output)
            drawn[layer] = chosen, np.stack([pattern(part, k) for k in chosen])
        return drawn

    return Task(work, _amount)


# ------------------------------------------------------ whether a pattern holds in images, untimed

WIDE = ("conv4", "conv5", "conv6", "conv7", "conv8", "conv9", "conv10")  # see 25 pixels and more
REFERENCES = 500  # validation images, and
HOSTS = 8  # others, into which patterns are pasted


def passes(data: Path) -> dict[str, Row]:
    """How many patterns of each contender pass: {contender: {"passes": share, "tries": count}}.

    A pattern passes in an image if, pasted into it by `debugcnn.pasted_responses`, it raises the
    response of its filter above that of 99 of 100 REFERENCES. Images that do so by themselves are
    not counted.
    """
    import keras
    import numpy as np

    import debugcnn

    ours = _model("ours")
    keras.utils.set_random_seed(0)
    untrained = keras.models.clone_model(ours)
    side = ours.input_shape[1]
    files = [debugcnn.image_files(Path(data, "validation", kind)) for kind in ("cats", "dogs")]
    references = [file for kind in files for file in kind[: REFERENCES // 2]]
    references, _ = debugcnn.load_images(references, side)
    hosts, _ = debugcnn.load_images([f for kind in files for f in kind[-HOSTS // 2 :]], side)

    def draw(model, **options):
        chosen, _ = _sample(model)
        return {
            layer: (
                chosen[layer],
                debugcnn.filter_patterns(model, layer, chosen[layer], **options)[0],
            )
            for layer in WIDE
        }

    contenders = {
        "ours": (ours, partial(draw, ours)),
        "ours, plain ascent": (ours, partial(draw, ours, jitter=0, decorrelate=False)),
        "ours, of the untrained model": (untrained, partial(draw, untrained)),
    }
    for label, contender in list(PATTERNS.items())[1:]:
        contenders[label] = ours, contender("ours").work
    limits, rows = {}, {}
    for label, (model, work) in contenders.items():
        passed = tries = 0
        for layer, (chosen, drawn) in work().items():
            if layer not in WIDE:
                continue
            if (key := (id(model), layer)) not in limits:
                known = debugcnn.responses(model, references, layer)
                limits[key] = np.quantile(known, 0.99, axis=0)
            limit = limits[key][chosen, None]
            drawn = np.clip(np.asarray(drawn, np.float32), 0, 255)
            pasted = debugcnn.pasted_responses(model, layer, chosen, drawn, hosts)
            counted = limit > debugcnn.responses(model, hosts, layer)[:, chosen].T
            passed += int(np.sum((pasted > limit) & counted))
            tries += int(np.sum(counted))
        rows[label] = {"passes": round(passed / tries, 4), "tries": tries}
        print(f"{label}: {passed / tries:.1%} of {tries:,}", flush=True)
    return rows


# ------------------------------------------------------------------------------------- contenders

GREY = 127.5  # the middle of the value range
GRAD_CAM = {
    "ours": partial(cam, "grad_cam"),
    "a forward pass, `model.predict`": forward,
    "a forward pass, `tf.function(model)`": forward_graph,
    "tf-keras-vis": partial(cam_tf_keras_vis, "gradcam", "Gradcam"),
    "tf-explain": grad_cam_tf_explain,
    "the loop of the Keras documentation": grad_cam_keras_docs,
}
GRAD_CAM_PLUS_PLUS = {
    "ours": partial(cam, "grad_cam_plus_plus"),
    "tf-keras-vis": partial(cam_tf_keras_vis, "gradcam_plus_plus", "GradcamPlusPlus"),
    "xplique": partial(xplique, "GradCAMPP", {"conv_layer": LAST["ours"]}, 64),
}
LAYER_CAM = {
    "ours": partial(cam, "layer_cam"),
    "tf-keras-vis": partial(cam_tf_keras_vis, "layercam", "Layercam"),
}
SMOOTH_GRAD = {
    "ours": partial(heatmap, "smooth_grad", count=SOME, samples=SAMPLES, noise=NOISE),
    "tf-keras-vis": smooth_grad_tf_keras_vis,
    "tf-explain": partial(
        tf_explain, "smoothgrad", "SmoothGrad", SOME, num_samples=SAMPLES, noise=NOISE * 255
    ),
    "xplique": partial(xplique, "SmoothGrad", {"nb_samples": SAMPLES, "noise": NOISE * 255}, SOME),
}
INTEGRATED_GRADIENTS = {
    "ours": partial(heatmap, "integrated_gradients", count=SOME, steps=SAMPLES),
    "tf-explain": partial(
        tf_explain, "integrated_gradients", "IntegratedGradients", SOME, n_steps=SAMPLES
    ),
    "xplique": partial(
        xplique, "IntegratedGradients", {"steps": SAMPLES, "baseline_value": GREY}, SOME
    ),
}
GUIDED_BACKPROPAGATION = {
    "ours": partial(heatmap, "guided_backpropagation"),
    "xplique": partial(xplique, "GuidedBackprop", {}, 64),
}
SCORE_CAM = {
    "ours": partial(cam, "score_cam", count=FEW),
    "tf-keras-vis": score_cam_tf_keras_vis,
}
OCCLUSION = {
    "ours": partial(heatmap, "occlusion", count=FEW, size=PATCH, stride=PATCH),
    "tf-explain": partial(
        tf_explain, "occlusion_sensitivity", "OcclusionSensitivity", FEW, patch_size=PATCH
    ),
    "xplique": partial(
        xplique,
        "Occlusion",
        {"patch_size": PATCH, "patch_stride": PATCH, "occlusion_value": GREY},
        FEW,
    ),
}
RISE = {
    "ours": partial(heatmap, "rise", count=FEW, samples=MASKS, cells=CELLS),
    "xplique": partial(xplique, "Rise", {"nb_samples": MASKS, "grid_size": CELLS}, FEW),
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
