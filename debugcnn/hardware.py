"""The machine that a number was measured on."""

import os
import platform
from pathlib import Path

import tensorflow as tf


def hardware() -> str:
    """The GPUs by name; without any, the processor and the number of its cores."""
    gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
    cpuinfo = Path("/proc/cpuinfo")  # on Linux
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return ", ".join(gpus) or f"{(names or [platform.processor()])[0]}, {os.cpu_count()} cores"
