"""Runs the measurements of all causes in order, judges them against their limits, and demotes once.

A measurement is made after those that it names in `unless` and `after`. It is a fault where its
value exceeds the limit and is clear. Where a fault named in `unless` was measured before, it is not
made at all. When all are made, a fault that another fault explains (`explained_by`) becomes a
suspicion; this happens once, by the faults as they were measured.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from .. import quiet  # noqa: F401  # before anything imports TensorFlow
from . import causes  # noqa: F401  # registers them
from .case import NEEDS, Case
from .findings import Measured, findings_of
from .registry import CAUSES, STAGES, Evidence, Measurement, NotExamined
from .report import Report

if TYPE_CHECKING:
    import keras


def diagnose(
    model: "keras.Model",
    images: ArrayLike,
    labels: ArrayLike,
    *,
    train: tuple[ArrayLike, ArrayLike] | None = None,
    value_range: tuple[float, float] | str = (0, 255),
    output: str | int | None = None,
    resized_variants: dict[str, np.ndarray] | None = None,
    class_names: Sequence[str] | None = None,
    limits: dict[str, float] | None = None,
    progress: Callable[[Iterable], Iterable] | None = None,
) -> Report:
    """What is wrong with a model, found out on labelled images that it was not trained on.

    `images` are (n, height, width, channels), from 0 to 255, of the size that the model takes;
    `labels` (n,) the numbers of their classes. `value_range` says how the model is fed: the lowest
    and highest value of a pixel, or "caffe" or "torch" (see `from_pixels`). `train` holds images
    and labels that it was trained on; `resized_variants` the same images resized in other ways,
    {name: images}; `output` chooses one of several outputs; `limits` overrules the limits of
    causes, {cause: value}; `progress` wraps the list of measurements, as tqdm does.

    The Report has a finding for each cause, faults first, and of these the root first. Raises
    ValueError, in one sentence, for a model or images that cannot be examined.

    >>> import keras, numpy as np
    >>> model = keras.Sequential([
    ...     keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2, "softmax")])
    >>> images = np.random.default_rng(0).uniform(0, 255, (40, 8, 8, 3))
    >>> report = diagnose(model, images, np.arange(40) % 2)
    >>> report.faults[0].cause
    'untrained_layer'
    """
    case = Case(
        model,
        images,
        labels,
        train=train,
        value_range=value_range,
        output=output,
        resized_variants=resized_variants,
        class_names=class_names,
        limits=limits,
    )
    return examine(case, progress)


def examine(case: Case, progress: Callable[[Iterable], Iterable] | None = None) -> Report:
    """The Report of a Case. `progress` wraps the list of measurements, as tqdm does."""
    ordered, judged = in_order(), {}
    for measurement in progress(ordered) if progress else ordered:
        result = _measure(case, measurement)
        verdict = "not examined" if isinstance(result, str) else _verdict(case, measurement, result)
        judged[measurement] = verdict, result
        if verdict == "fault":
            case.faults.add((measurement.cause, measurement.name))
    measurements = [
        _judged(case, measurement, _demoted(measurement, verdict, case.faults), result)
        for measurement, (verdict, result) in judged.items()
    ]
    finite = case.accuracy is not None
    correct_as_given = case.given_probabilities.argmax(1) == case.labels
    return Report(
        case.accuracy,
        float(correct_as_given.mean()) if finite else None,
        case.auc.value if finite else None,
        len(case.labels),
        case.feed.value_range,
        findings_of(measurements),
        measurements,
        case,
    )


def in_order() -> list[Measurement]:
    """All measurements, each after those that it refers to, otherwise by stage and name.

    Raises ValueError for a reference to nothing, and for measurements that wait for one another.
    """
    waiting = [m for cause in CAUSES.values() for m in cause.measurements]
    waiting.sort(key=lambda m: (STAGES.index(CAUSES[m.cause].stage), m.cause))
    before = {m: set(meant((*m.unless, *m.after), waiting)) - {m} for m in waiting}
    for measurement in waiting:
        meant(measurement.explained_by, waiting)  # refers to something
    ordered = []
    while waiting:
        ready = next((m for m in waiting if before[m] <= set(ordered)), None)
        if ready is None:
            names = ", ".join(f"{m.cause}:{m.name}" for m in waiting)
            raise ValueError(f"These measurements wait for one another: {names}.")
        ordered.append(ready)
        waiting.remove(ready)
    return ordered


def meant(references: Iterable[str], measurements: list[Measurement]) -> list[Measurement]:
    """The measurements that references name (see Measurement). Raises ValueError for none."""
    chosen = []
    for reference in references:
        named = [m for m in measurements if m.is_meant(reference, CAUSES[m.cause].stage)]
        if not named:
            raise ValueError(f"The reference {reference!r} names no cause, measurement or stage.")
        chosen += named
    return chosen


def _measure(case, measurement) -> Evidence | str:
    """Evidence, or why there is none."""
    for need in measurement.needs:
        reason, is_met = NEEDS[need]
        if not is_met(case):
            return f"{reason[0].upper()}{reason[1:]}."
    root = _first_fault(measurement.unless, measurement, case.faults)
    if root:
        return f"It cannot be told apart from {root}."
    try:
        return measurement.run(case)
    except NotExamined as reason:
        return str(reason)


def _first_fault(references, measurement, faults):
    """The cause of the first fault that is referred to, other than the measurement's own."""
    for cause, name in sorted(faults):
        other = next(m for m in CAUSES[cause].measurements if m.name == name)
        if other is not measurement and any(
            other.is_meant(reference, CAUSES[cause].stage) for reference in references
        ):
            return cause
    return None


def _verdict(case, measurement, evidence):
    limit = case.with_user_limit(measurement, evidence.limit or measurement.limit)
    if limit and limit.exceeded(evidence.value) and evidence.clear:
        return "fault"
    hinted = limit is not None and limit.hinted(evidence.value)
    return "suspicious" if evidence.suspicious or hinted else "fine"


def _demoted(measurement, verdict, faults):
    if verdict == "fault" and _first_fault(measurement.explained_by, measurement, faults):
        return "suspicious"
    return verdict


def _judged(case, measurement, verdict, result):
    if isinstance(result, str):
        given = measurement.cause, measurement.name, verdict, None, None, True
        return Measured(*given, result, "")
    limit = case.with_user_limit(measurement, result.limit or measurement.limit)
    fix = (result.fix or CAUSES[measurement.cause].fix) if verdict == "fault" else ""
    return Measured(
        measurement.cause,
        measurement.name,
        verdict,
        None if result.value is None else float(result.value),
        None if limit is None else float(limit.value),
        limit is None or limit.above,
        result.message,
        fix,
        result,
    )
