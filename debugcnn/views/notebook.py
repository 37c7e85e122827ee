"""What a notebook needs that has to go on whatever net it is given."""

from contextlib import contextmanager

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown, display


@contextmanager
def section(what):
    """What fails inside is told in one sentence, and the notebook goes on."""
    try:
        yield
    except Exception as error:
        plt.close("all")
        first = (str(error).strip() or "no message").splitlines()[0]
        known = isinstance(error, ValueError)
        print(f"{what}: left out. {first if known else f'{type(error).__name__}: {first}'}")


def spread(items, most):
    """A list of at most `most` of the items, evenly spaced, the first and the last among them."""
    places = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[place] for place in places]


def table(head, rows, folded=None):
    """Show rows as a table; `folded` is the line to click on if it should be folded up."""
    lines = [head, ["---"] * len(head), *rows]
    text = "\n".join("| " + " | ".join(str(c).replace("|", "\\|") for c in r) + " |" for r in lines)
    if folded:
        text = f"<details><summary>{folded}</summary>\n\n{text}\n\n</details>"
    display(Markdown(text))
