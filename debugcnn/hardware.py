"""What this machine trains with: its processor or GPUs, their number format, the memory used."""

import os
import platform
import re
import sys
from pathlib import Path


def hardware() -> str:
    """The GPUs, or the processor's name and the number of its cores."""
    import tensorflow as tf

    gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
    names = [
        line.split(":")[1].strip()
        for line in _cpuinfo().splitlines()
        if line.startswith("model name")
    ]
    return ", ".join(gpus) or f"{(names or [platform.processor()])[0]}, {os.cpu_count()} cores"


def precision() -> str:
    """The policy in which this machine trains fastest: "mixed_bfloat16" or "float32"."""
    import tensorflow as tf

    flags = _cpuinfo()
    if tf.config.list_physical_devices("GPU") or "avx512_bf16" in flags or "amx_bf16" in flags:
        return "mixed_bfloat16"
    return "float32"


def peak_memory() -> int | None:
    """The highest memory of this process so far in bytes, or None on Windows."""
    if sys.platform == "win32":
        return None
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, whose getrusage also counts the program that started this one
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024
    import resource  # Windows has none

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def _cpuinfo():
    file = Path("/proc/cpuinfo")  # on Linux
    return file.read_text() if file.exists() else ""
