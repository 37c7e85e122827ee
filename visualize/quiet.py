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


# Of what it writes later, while a model runs, errors of its own optimisers would be shown, though
# they end in nothing but a slower way; what fails is raised in any case.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with _silenced():
    import keras  # noqa: F401
    import tensorflow as tf

    tf.config.list_physical_devices()  # where a driver finds no GPU, it says so here
