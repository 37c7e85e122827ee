"""The graph of a functional model as Keras 2 wrote it, called layer by layer."""

from typing import Any, NamedTuple

import keras


class Call(NamedTuple):
    """One call of a layer: its tensors come from other calls."""

    name: str  # of the layer
    number: int  # of the call
    node: list  # as the file describes it


class Graph:
    """Layers by their names in the file, and what each of their calls returned."""

    def __init__(self, inputs: dict[str, keras.KerasTensor]) -> None:
        self.results: dict[tuple[str, int], list] = {(n, 0): [t] for n, t in inputs.items()}
        self.layers: dict[str, keras.layers.Layer] = {}
        self.names = set(inputs)
        self.waiting: list[Call] = []

    def add(self, name: str, layer: keras.layers.Layer, nodes: list) -> None:
        """Add a layer that the file describes as called once for each node."""
        self.layers[name] = layer
        self.names.add(name)
        first = 1 if isinstance(layer, keras.Model) else 0  # 0: a model's own graph
        self.waiting += [Call(name, number, node) for number, node in enumerate(nodes, first)]

    def call_layers(self) -> None:
        """Call each layer as soon as its inputs are there. Raises ValueError if some never are."""
        while self.waiting:
            postponed = [call for call in self.waiting if not self._called(call)]
            if len(postponed) == len(self.waiting):
                raise ValueError(f"What enters its layer {postponed[0].name!r} is missing.")
            self.waiting = postponed

    def ends(self, addresses: Any) -> Any:
        """The inputs or outputs at the addresses in the file: a tensor, a list, or a dict."""
        if isinstance(addresses, dict):
            return {key: self._resolved(item) for key, item in addresses.items()}
        tensors = self._resolved(addresses)
        return tensors[0] if isinstance(tensors, list) and len(tensors) == 1 else tensors

    def _called(self, call):
        try:
            tensors, arguments = self._arguments(call.node)
        except KeyError:  # an input that is not there yet
            return False
        outputs = self.layers[call.name](*tensors, **arguments)
        self.results[call.name, call.number] = keras.tree.flatten(outputs)
        return True

    def _arguments(self, node):
        """The node is [[layer, call, tensor, arguments], ...], of an operation maybe one item."""
        items = node if isinstance(node[0], list) else [node]
        arguments = self._resolved(items[0][3]) if len(items[0]) > 3 else {}
        arguments.pop("name", None)
        if items[0][0] == "_CONSTANT_VALUE":
            return [], arguments | {"constant": items[0][2]}
        tensors = [self._resolved(address[:3]) for address in items]
        return [tensors if len(tensors) > 1 else tensors[0]], arguments

    def _resolved(self, value):
        """What was passed to a call, with tensors in place of their addresses."""
        if isinstance(value, list):
            if len(value) == 3 and isinstance(value[0], str) and value[0] in self.names:
                return self.results[value[0], value[1]][value[2]]
            return [self._resolved(item) for item in value]
        if not isinstance(value, dict):
            return value
        if set(value) == {"start", "stop", "step"}:
            return slice(value["start"], value["stop"], value["step"])
        if value.get("class_name") == "__ellipsis__":
            return ...
        return {key: self._resolved(item) for key, item in value.items()}
