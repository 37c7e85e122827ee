"""TensorFlow, imported without the start-up messages that it writes past Python into notebooks."""

import os
from contextlib import contextmanager


@contextmanager
def _silenced():
    stderr = os.dup(2)
    with open(os.devnull, "w") as null:
        os.dup2(null.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


with _silenced():
    import keras  # noqa: F401
    import tensorflow as tf

    tf.config.list_physical_devices()  # where a driver finds no GPU, it says so here
