"""What keeps the training in CatsVsDogs.ipynb going: checkpoints and the history.

The lesson itself (the images, the model, the schedule) is in the notebook.
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from .files.atomic import write_atomically
from .hardware import hardware, peak_memory, precision

__all__ = ["FusedBatchNormalization", "Training", "hardware", "peak_memory", "precision", "report"]


@keras.saving.register_keras_serializable()
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """The same arithmetic in one pass over the feature map, which takes a processor less time."""

    def call(self, inputs: tf.Tensor, training: bool = False, mask: None = None) -> tf.Tensor:
        """The feature maps (n, height, width, channels), normalized."""
        fused = tf.compat.v1.nn.fused_batch_norm
        if not training:
            moving = dict(mean=self.moving_mean, variance=self.moving_variance, is_training=False)
            return fused(inputs, self.gamma, self.beta, epsilon=self.epsilon, **moving)[0]
        outputs, mean, variance = fused(inputs, self.gamma, self.beta, epsilon=self.epsilon)
        for moving, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(self.momentum * moving + (1 - self.momentum) * new)
        return outputs


class Training(keras.callbacks.Callback):
    """A training that can be interrupted at any moment at the cost of at most one epoch.

    `folder` keeps the weights and the optimizer's state after the last two epochs, `history.json`,
    a list of {"epoch", "side", "accuracy", "loss", "val_accuracy", "val_loss", "seconds",
    "memory" (bytes, the process's highest so far), "hardware"}, and the `settings`, which must stay
    the same.
    `model` is compiled and its optimizer built; an epoch has `steps` steps; each `every`-th one is
    printed. What `folder` holds is restored; where it is empty, the training starts from the model
    and optimizer as they are, which may have been trained before. Raises ValueError if it holds a
    training with other settings.
    """

    def __init__(
        self,
        folder: str | Path,
        model: keras.Model,
        steps: int,
        settings: Sequence[Any] | Mapping[str, Any],
        every: int = 1,
    ) -> None:
        super().__init__()
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        settings_file = folder / "settings.json"
        if settings_file.exists() and json.loads(settings_file.read_text("utf-8")) != settings:
            raise ValueError(
                f"{folder} holds a training with other images or parameters: "
                "move it away to start afresh, or set the parameters back to go on with it."
            )
        write_atomically(settings_file, json.dumps(settings))
        self.file = folder / "history.json"
        checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
        self.manager = tf.train.CheckpointManager(checkpoint, folder, max_to_keep=2)
        self.manager.restore_or_initialize()
        self.done = int(model.optimizer.iterations.numpy()) // steps
        history = json.loads(self.file.read_text("utf-8")) if self.file.exists() else []
        self.history = [line for line in history if line["epoch"] <= self.done]
        self.every = every
        self.side = None  # of the images in pixels, set before each call of `fit`
        for line in self.history:
            if line["epoch"] % every == 0:
                report(line)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Start the clock."""
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Store the history, the weights and the state of the optimizer."""
        line = dict(epoch=epoch + 1, side=self.side, **{k: round(v, 4) for k, v in logs.items()})
        line["seconds"] = round(time.perf_counter() - self.start, 1)
        self.history.append(line | {"memory": peak_memory(), "hardware": hardware()})
        write_atomically(self.file, json.dumps(self.history))
        self.manager.save(checkpoint_number=epoch + 1)
        self.done = epoch + 1
        if self.done % self.every == 0:
            report(line)


def report(line: Mapping[str, Any]) -> None:
    """Print one epoch of the history."""
    print(
        f"epoch {line['epoch']:2}  {line['side']} px  {line['seconds']:4.0f} s   "
        f"accuracy {line['accuracy']:.3f}  loss {line['loss']:.3f}   "
        f"validation: accuracy {line['val_accuracy']:.3f}  loss {line['val_loss']:.3f}"
    )
