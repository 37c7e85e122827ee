"""What keeps the training in CatsVsDogs.ipynb going: checkpoints, its history, the machine.

The lesson itself (the photos, the net, the schedule) stands in the notebook.
"""

import json  # noqa: I001
import os
import re
import sys
import time
from pathlib import Path

import keras
import tensorflow as tf

from .hardware import hardware


@keras.saving.register_keras_serializable()
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """The same arithmetic in one pass over the map, which takes a processor less time."""

    def call(self, inputs, training=False, mask=None):
        fused = tf.compat.v1.nn.fused_batch_norm
        if not training:
            known = dict(mean=self.moving_mean, variance=self.moving_variance, is_training=False)
            return fused(inputs, self.gamma, self.beta, epsilon=self.epsilon, **known)[0]
        outputs, mean, variance = fused(inputs, self.gamma, self.beta, epsilon=self.epsilon)
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(self.momentum * moving + (1 - self.momentum) * new)
        return outputs


class Training(keras.callbacks.Callback):
    """A training that can be stopped at any moment and loses an epoch at most.

    `folder` keeps the weights and the optimizer's state after the last two epochs, `history.json`,
    a list of {"epoch", "side", "accuracy", "loss", "val_accuracy", "val_loss", "seconds",
    "memory" (bytes, the process's highest so far), "hardware"}, and the `settings`, which must stay
    the same.
    `model` is compiled and its optimizer built; an epoch has `steps` steps; each `every`-th one is
    printed. What `folder` holds is restored; where it is empty, the training starts from the model
    and optimizer as they are, which may have been trained before. Raises ValueError if it holds a
    training with other settings.
    """

    def __init__(self, folder, model, steps, settings, every=1):
        super().__init__()
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        told = folder / "settings.json"
        if told.exists() and json.loads(told.read_text()) != settings:
            raise ValueError(
                f"{folder} holds a training with other photos or parameters: "
                "move it away to start afresh, or set the parameters back to go on with it."
            )
        told.write_text(json.dumps(settings))
        self.file = folder / "history.json"
        checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
        self.manager = tf.train.CheckpointManager(checkpoint, folder, max_to_keep=2)
        self.manager.restore_or_initialize()
        self.done = int(model.optimizer.iterations.numpy()) // steps
        history = json.loads(self.file.read_text()) if self.file.exists() else []
        self.history = [line for line in history if line["epoch"] <= self.done]
        self.every = every
        self.side = None  # of the photos in pixels, told before each call of `fit`
        for line in self.history:
            if line["epoch"] % every == 0:
                report(line)

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs):
        line = dict(epoch=epoch + 1, side=self.side, **{k: round(v, 4) for k, v in logs.items()})
        line["seconds"] = round(time.perf_counter() - self.start, 1)
        self.history.append(line | {"memory": peak_memory(), "hardware": hardware()})
        partial = self.file.with_suffix(".partial")
        partial.write_text(json.dumps(self.history))
        os.replace(partial, self.file)  # whole or not at all
        self.manager.save(checkpoint_number=epoch + 1)
        self.done = epoch + 1
        if self.done % self.every == 0:
            report(line)


def report(line):
    """Print what an epoch came to, as a line of the history."""
    print(
        f"epoch {line['epoch']:2}  {line['side']} px  {line['seconds']:4.0f} s   "
        f"accuracy {line['accuracy']:.3f}  loss {line['loss']:.3f}   "
        f"validation: accuracy {line['val_accuracy']:.3f}  loss {line['val_loss']:.3f}"
    )


def precision():
    """The policy in which this machine trains fastest: "mixed_bfloat16" or "float32"."""
    file = Path("/proc/cpuinfo")  # on Linux
    flags = file.read_text() if file.exists() else ""
    computes = tf.config.list_physical_devices("GPU") or "avx512_bf16" in flags
    return "mixed_bfloat16" if computes or "amx_bf16" in flags else "float32"


def peak_memory():
    """The highest memory of this process so far in bytes, or None on Windows."""
    if sys.platform == "win32":
        return None
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, whose getrusage also counts the program that started this one
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024
    import resource  # Windows has none

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
