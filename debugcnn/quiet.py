"""TensorFlow, imported without the start-up messages that it writes past Python into notebooks."""

import os
import sys

from .silence import standard_error_silenced

if "tensorflow" not in sys.modules:  # whoever imported it has seen the messages already
    # Of what it writes later, while a model runs, errors of its own optimisers would be shown,
    # though they end in nothing but a slower way; what fails is raised in any case.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with standard_error_silenced():
        import keras  # noqa: F401
        import tensorflow as tf

        tf.config.list_physical_devices()  # where a driver finds no GPU, it says so here
