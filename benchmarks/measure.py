"""Contenders in turn, each in a process of its own: seconds, peak memory and what came of it."""

import json
import os
import platform
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from statistics import median

sys.path.append(str(Path(__file__).resolve().parents[1]))  # where the tutorial's modules lie

PACKAGES = [
    "tensorflow",
    "keras",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "tf-keras-vis",
    "tf-explain",
    "split-folders",
    "scipy",
    "xplique",
]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
_at_work = {}  # in a contender's process


def _set_up(function, arguments):
    made = function(*arguments)
    made = made if isinstance(made, tuple) else (made,)
    _at_work.update({"judge": lambda result: {}, "prepare": lambda: None})
    _at_work.update(zip(("work", "judge", "prepare"), made))


def _repeat():
    _at_work["result"] = None  # so that two results never count as the memory of one
    _at_work["prepare"]()
    begin = time.perf_counter()
    _at_work["result"] = _at_work["work"]()
    return time.perf_counter() - begin


def peak_bytes():
    """Most memory that this process, or one that it waited for, ever held; not on Windows."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    status = Path("/proc/self/status")
    if status.exists():  # on Linux, where getrusage also counts the parent before this began
        own = int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) * 1024
    else:
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return max(own, children)


def _judge():
    return _at_work["judge"](_at_work["result"])


def spread(values):
    return {"median": median(values), "minimum": min(values), "maximum": max(values)}


def sentence(error):
    """An error in a line of a table, without a path of this machine."""
    text = re.sub(r"(/[\w.~+-]+)+/", "", " ".join(str(error).split()))  # no folders
    text = f"{type(error).__name__}: {text}".replace("|", "/").replace("`", "'")
    return text if len(text) <= 200 else text[:199] + "…"


def compare(contenders, repetitions, warm_up=1, arguments=()):
    """Time {label: function} in turn, "ours" among them: {label: what was measured}.

    A function, at the top of a module, or a functools.partial of one, sets up and returns the work,
    or (work, judge of its result), or also what is done before each round. What is timed are the
    repetitions of the work after `warm_up` of them, one contender after the other, and the next
    round the other way round. `ratio` is a contender's time over ours in the same round, both for
    the same `amount`, if the judge tells one. What fails, fails with its error, and the others go
    on. Raises RuntimeError if ours fails.
    """
    pools, measured = {}, {label: {"seconds": []} for label in contenders}

    def ask(label, function, *given):
        try:
            return pools[label].submit(function, *given).result()
        except Exception as error:  # whatever a peer raises belongs into the results
            measured[label] = {"error": sentence(error)}
            pools.pop(label).shutdown()

    for label, function in contenders.items():
        pools[label] = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        ask(label, _set_up, function, arguments)
    for number in range(-warm_up, repetitions):
        for label in list(pools)[:: 1 if number % 2 else -1]:
            seconds = ask(label, _repeat)
            if seconds is None:
                continue
            if number == -warm_up:
                measured[label]["first_seconds"] = seconds
            if number >= 0:
                measured[label]["seconds"].append(seconds)
                print(f"  {label:36} {seconds:8.2f} s", flush=True)
    for label in list(pools):
        peak = ask(label, peak_bytes)
        judged = ask(label, _judge)
        if label in pools:
            measured[label] |= {"peak_bytes": peak} | judged
            pools[label].shutdown()
    if "error" in measured["ours"]:
        raise RuntimeError(
            f"Ours failed, so there is nothing to compare: {measured['ours']['error']}"
        )
    return told(measured)


def told(measured):
    """The same with the spread of the seconds and of the ratios to ours."""
    rows = {label: row.copy() for label, row in measured.items()}
    ours = measured["ours"]
    for row in rows.values():
        if "seconds" in row:
            scale = ours.get("amount", 1) / row.get("amount", 1)
            pairs = zip(row["seconds"], ours["seconds"])
            row["ratio"] = spread([scale * theirs / own for theirs, own in pairs])
            row["seconds"] = spread(row["seconds"])
    return rows


def replace(file, text):
    """Write a text file, whole or not at all."""
    partial = file.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(file)


def save(file, values):
    """Write JSON, whole or not at all."""
    replace(file, json.dumps(values, indent=1) + "\n")


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def conditions():
    """What the numbers hold for."""
    versions = {"python": platform.python_version()}
    versions |= {package: version(package) for package in PACKAGES}
    return {"versions": versions, "processor": processor(), "cores": os.cpu_count()}
