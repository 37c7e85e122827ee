"""The photos' way into the net: how many a second, and how long an epoch waits for them."""

import atexit
import itertools
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path

SIDE, BATCH, STEPS = 144, 64, 24
CLASSES = ["cats", "dogs"]


def _ours(data):
    """Batches of the notebook, whose photos are decoded once for all epochs of a stage, and kept on
    disk. So each epoch decodes its part of them: here, of the last stage, a ninth of what it reads.
    """
    import cells

    notebook = cells.definitions()
    epochs, strength = next(stage[1:] for stage in notebook.STAGES if stage[0] == SIDE)
    side = SIDE * 5 // 4
    notebook.DATA = data
    cache, share = tempfile.mkdtemp(), tempfile.TemporaryDirectory()
    atexit.register(shutil.rmtree, cache)  # it is read until the end
    varied = notebook.batches("train", SIDE, strength, 0, cache)
    for kind in CLASSES:
        files = sorted(Path(data, "train", kind).iterdir())[: STEPS * BATCH // epochs // 2]
        folder = Path(share.name, "part", kind)
        folder.mkdir(parents=True)
        for file in files:
            (folder / file.name).symlink_to(file.resolve())

    def batches():
        notebook.DATA = share.name
        notebook.load("part", side)
        return varied

    return batches


def _image_data_generator(data):
    """ImageDataGenerator with the usual augmentation, which decodes each photo in each epoch."""
    import tensorflow as tf

    augment = tf.keras.preprocessing.image.ImageDataGenerator(
        rotation_range=15,
        width_shift_range=0.1,
        height_shift_range=0.1,
        zoom_range=0.2,
        brightness_range=(0.7, 1.3),
        horizontal_flip=True,
    )
    options = dict(target_size=(SIDE, SIDE), batch_size=BATCH, class_mode="binary")
    photos = augment.flow_from_directory(Path(data, "train"), **options)
    shapes = (None, SIDE, SIDE, 3), (None,)
    ahead = tf.data.Dataset.from_generator(
        lambda: photos, output_signature=tuple(tf.TensorSpec(shape) for shape in shapes)
    ).prefetch(10)  # as many as fit holds ready
    return lambda: ahead


def _image_dataset(data, cached=False):
    """image_dataset_from_directory and Keras layers that augment: as in the Keras documentation.

    With `cached`, the photos that are read here are kept decoded in memory from the first time on.
    """
    import keras
    import tensorflow as tf
    from keras import layers

    augment = keras.Sequential(
        [
            layers.RandomFlip("horizontal"),
            layers.RandomRotation(0.05),
            layers.RandomZoom(0.2),
            layers.RandomContrast(0.3),
            layers.RandomBrightness(0.2),
        ]
    )
    options = dict(class_names=CLASSES, image_size=(SIDE, SIDE), batch_size=BATCH, verbose=False)
    photos = keras.utils.image_dataset_from_directory(Path(data, "train"), **options)
    photos = photos.take(STEPS).cache() if cached else photos
    photos = photos.map(lambda p, y: (augment(p, training=True), y), tf.data.AUTOTUNE)
    photos = photos.prefetch(tf.data.AUTOTUNE)
    return lambda: photos


def _same_batch(data):
    """No pipeline at all: one batch, again and again."""
    import numpy as np
    import tensorflow as tf

    photos = np.random.default_rng(0).uniform(0, 255, (BATCH, SIDE, SIDE, 3)).astype(np.float32)
    batch = tf.constant(photos), tf.constant(np.arange(BATCH) % 2, tf.float32)
    same = tf.data.Dataset.from_tensors(batch).repeat()
    return lambda: same


def _timed(batches, use):
    """The work of using STEPS batches, nothing to judge, and what comes before each round.

    That is a pause in which the one before ends what it read ahead, and two batches, for what the
    machine may have put away of a process that waited. The work returns the iterator: tf.data
    waits for up to a minute when one ends (tensorflow 2.21, with autotune), which is not timed.
    """

    def some(steps):
        iterator = iter(batches())
        for photos, labels in itertools.islice(iterator, steps):
            use(photos, labels)
        return iterator

    def prepare():
        time.sleep(2)
        some(2)

    return lambda: some(STEPS), lambda result: {}, prepare


def read(make, data):
    return _timed(make(data), lambda photos, labels: None)


def train(make, data):
    """Train our net, as the notebook sets it up, on the batches."""
    import cells
    import keras

    notebook = cells.definitions()
    keras.mixed_precision.set_global_policy(notebook.training.precision())
    model = notebook.build_model(normalization=notebook.training.FusedBatchNormalization)
    loss = keras.losses.BinaryCrossentropy(label_smoothing=0.05)
    model.compile(keras.optimizers.AdamW(1e-3), loss, jit_compile=False)
    # Not fit, which would compile anew at each call.
    return _timed(
        make(data),
        lambda photos, labels: model.train_on_batch(photos, keras.ops.reshape(labels, (-1, 1))),
    )


PIPELINES = {
    "ours": _ours,
    "`ImageDataGenerator`": _image_data_generator,
    "`image_dataset_from_directory` and Keras layers": _image_dataset,
    "the same, decoded before": partial(_image_dataset, cached=True),
}
READING = {label: partial(read, make) for label, make in PIPELINES.items()}
TRAINING = {
    label: partial(train, make)
    for label, make in (PIPELINES | {"the same batch again": _same_batch}).items()
}
