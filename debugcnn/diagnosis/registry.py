"""What a cause is, and the one list of all causes.

A cause stands in one file of `causes/`. It has one or more measurements, functions of a Case that
return Evidence or raise NotExamined, and may have preprocessing variants (`forms`) and a picture:

    @cause("leak", stage="data", title=..., symptom=..., check=..., fix=..., needs=("train",))
    def leak(case) -> Evidence: ...

    @leak.picture
    def pairs_of_copies(case, evidence): ...

CONTRIBUTING.md shows a whole one.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

# In this order faults are reported: an earlier stage can explain a later one.
STAGES = (
    "files",  # what the image files are
    "model",  # what the weights and the graph show, without any image
    "input",  # how the images are fed
    "activations",  # what the layers return
    "predictions",  # what the predictions show, given the labels
    "data",  # what the images and labels have to do with it
    "confidence",  # what may be left when nothing else is wrong
)


@dataclass(frozen=True)
class Limit:
    """Beyond which value a measurement is a fault, and where that number comes from."""

    value: float
    unit: str  # what is measured
    origin: str  # a derivation, a publication, or the measurements that it was set on
    above: bool = True  # a fault lies above the limit; otherwise below it
    hint: float | None = None  # beyond which the cause is suspicious

    def exceeded(self, value: float | None) -> bool:
        return _beyond(value, self.value, self.above)

    def hinted(self, value: float | None) -> bool:
        return self.hint is not None and _beyond(value, self.hint, self.above)


def _beyond(value: float | None, bound: float, above: bool) -> bool:
    return value is not None and bool(value > bound if above else value < bound)


class Evidence(NamedTuple):
    """What one measurement found."""

    value: float | None  # compared with the limit
    message: str  # one or two sentences
    clear: bool = True  # whether a value beyond the limit is a fault at all
    suspicious: bool = False  # suspicious also within the limit, or where it is not clear
    limit: Limit | None = None  # another than the measurement's own
    fix: str = ""  # another than the cause's own
    details: Any = None  # for the picture


class NotExamined(Exception):
    """Raised by a measurement that cannot be made; the message is the reason, as a sentence."""


@dataclass(frozen=True)
class Measurement:
    """One way to find a cause.

    References name causes ("leak": all of its measurements), single measurements
    ("untrained_layer:weights_as_drawn", or ":unlike_training", of whatever cause) or stages
    ("model").
    """

    cause: str
    name: str
    run: Callable[..., Evidence]
    limit: Limit | None
    needs: tuple[str, ...]  # in `case.NEEDS`
    unless: tuple[str, ...]  # a fault here makes the measurement meaningless
    explained_by: tuple[str, ...]  # a fault here leaves no more than a suspicion
    after: tuple[str, ...]  # measured before, because this one looks at it

    def is_meant(self, reference: str, stage: str) -> bool:
        """Whether a reference names this measurement, whose cause is of that stage."""
        owner, _, name = reference.partition(":")
        return owner in ("", self.cause, stage) and name in ("", self.name)


@dataclass
class Cause:
    """All there is to say about a cause."""

    name: str
    stage: str
    title: str  # what is wrong, as a clause
    symptom: str  # what a person sees first
    check: str  # the picture or test that shows it
    fix: str  # one sentence, imperative
    measurements: list[Measurement] = field(default_factory=list)
    forms: Callable | None = None  # (feed, labels, logits) -> list of forms.Form
    draw: Callable | None = None  # (case, evidence) -> (figure, caption)

    def measurement(
        self,
        *,
        limit: Limit | None = None,
        needs: Iterable[str] = (),
        unless: Iterable[str] = (),
        explained_by: Iterable[str] = (),
        after: Iterable[str] = (),
    ) -> Callable:
        """Register a function of a Case as one more way to find this cause."""

        def register(function):
            references = tuple(needs), tuple(unless), tuple(explained_by), tuple(after)
            name = function.__name__
            self.measurements.append(Measurement(self.name, name, function, limit, *references))
            return function

        return register

    def variants(self, function: Callable) -> Callable:
        """Register what else the input may be: (feed, labels, logits) -> list of forms.Form."""
        self.forms = function
        return function

    def picture(self, function: Callable) -> Callable:
        """Register what shows this cause: (case, evidence) -> (Matplotlib figure, caption)."""
        self.draw = function
        return function


CAUSES: dict[str, Cause] = {}


def cause(
    name: str, *, stage: str, title: str, symptom: str, check: str, fix: str, **measurement: Any
) -> Callable[[Callable], Cause]:
    """Register a cause whose first measurement is the decorated function.

    The other arguments are those of `Cause.measurement`. Raises ValueError for a name that is taken
    and for an unknown stage.
    """
    if name in CAUSES:
        raise ValueError(f"There is a cause {name!r} already: choose another name.")
    if stage not in STAGES:
        raise ValueError(f"stage is one of {', '.join(STAGES)}, not {stage!r}.")

    def register(function):
        CAUSES[name] = Cause(name, stage, title, symptom, check, fix)
        CAUSES[name].measurement(**measurement)(function)
        return CAUSES[name]

    return register
