"""What a Keras file says about its model: the layers, how they are connected, and where their weights are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

#: Classes of models, whose layers are listed in place of them.
_MODELS = ("Sequential", "Functional", "Model")
#: Layers that hand on what they get when the network is used.
_PASSING = (
    "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "GaussianDropout", "AlphaDropout",
    "GaussianNoise", "ActivityRegularization", "Identity",
)  # fmt: skip


class Layer(NamedTuple):
    """A layer of a model.

    Parameters
    ----------
    name : str
        With the names of the submodels that it is in, joined by dots.
    kind : str
        Keras' class; "" if the file does not say it.
    config : mapping
        Its arguments; empty if the file does not say them.
    path : tuple of str
        Where its weights are: in Keras 3 the groups on the way; before, the group of the layer of the whole
        model, and if that one is a submodel the names of those on the way.
    """

    name: str
    kind: str
    config: Mapping[str, Any]
    path: tuple[str, ...]


class Plan(NamedTuple):
    """The layers of a model, and for a layer's name those whose outputs it sees, with repetition.

    `uses` counts how often a layer's output is seen, by other layers or as an output of the model.
    """

    layers: list[Layer]
    sources: dict[str, list[str]]
    uses: Counter[str]

    def before(self, layer: Layer) -> Layer | None:
        """The layer of which this one alone sees the output, and no other; nothing between but dropout."""
        named = {other.name: other for other in self.layers}
        for _ in self.layers:  # a damaged file may have a circle
            sources = self.sources.get(layer.name, [])
            if len(sources) != 1 or sources[0] not in named or self.uses[sources[0]] != 1:
                return None
            layer = named[sources[0]]
            if layer.kind not in _PASSING:
                return layer
        return None


def inner(layer: Layer) -> tuple[str, Mapping[str, Any]]:
    """Class and arguments of what computes: of `TimeDistributed` the layer in it."""
    kind, config = layer.kind, layer.config
    if kind == "TimeDistributed" and isinstance(config.get("layer"), Mapping):
        kind, config = str(config["layer"].get("class_name")), config["layer"].get("config", {})
    return kind, config


def activation_name(value: Any) -> Any:
    """The name of an activation, which Keras writes as a name or as an object; "linear" for none.

    Something else is as the file has it.
    """
    if isinstance(value, Mapping):
        inside = value.get("config")
        value = inside if isinstance(inside, str) else value.get("class_name")
    return "linear" if value is None else value


def changes_numbers(layer: Layer) -> bool:
    """Whether a layer gives something else than it gets when the network is used."""
    kind, config = inner(layer)
    if kind == "Activation":
        return activation_name(config.get("activation")) != "linear"
    return kind not in (*_PASSING, "InputLayer", "Masking")


def read_plan(model: Mapping[str, Any], keras_3: bool) -> Plan:
    """The plan of a model from its serialised form, ``{"class_name": ..., "config": ...}``.

    Parameters
    ----------
    model : mapping
    keras_3 : bool
        Whether weights are found by the classes of layers (``.keras``) or by their names (``.h5``).
    """
    plan = Plan([], {}, Counter())
    _collect(model, plan, "", (), keras_3)
    return plan


def _collect(model: Mapping[str, Any], plan: Plan, prefix: str, path: tuple[str, ...], keras_3: bool) -> None:
    config = model["config"]
    entries = config if isinstance(config, list) else config.get("layers", ())  # a list before Keras 2.2.3
    seen: Counter[str] = Counter()
    previous = ""
    for entry in entries:
        kind, inner = str(entry["class_name"]), entry["config"]
        own = str(entry.get("name") or (inner.get("name") if isinstance(inner, Mapping) else "") or kind)
        name = prefix + own
        sources = [prefix + source for source in _sources(entry.get("inbound_nodes"))]
        if "inbound_nodes" not in entry and previous:
            sources = [previous]
        plan.sources[name] = sources
        plan.uses.update(sources)
        previous = name
        place = _place(kind, own, path, seen, keras_3)
        if kind in _MODELS and _has_layers(inner):
            _collect(entry, plan, f"{name}.", place, keras_3)
        else:
            plan.layers.append(Layer(name, kind, inner, place))
    if isinstance(config, Mapping):
        outputs = config.get("output_layers") or []
        plan.uses.update(prefix + output for output in _sources([outputs]))


def _has_layers(config: Any) -> bool:
    return isinstance(config, list) or "layers" in config


def _place(kind: str, name: str, path: tuple[str, ...], seen: Counter[str], keras_3: bool) -> tuple[str, ...]:
    """Where a layer's weights are."""
    if not keras_3:
        return (*path, name)
    snake = snake_case(kind)
    number = seen[snake]
    seen[snake] += 1
    return (*path, "layers", f"{snake}_{number}" if number else snake)


def snake_case(name: str) -> str:
    """A class's name as Keras 3 writes it into paths: keras/src/utils/naming.py."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _sources(nodes: Any) -> Iterator[str]:
    """Names of the layers in ``inbound_nodes`` or ``output_layers``, of Keras 2 or 3."""
    if isinstance(nodes, Mapping):
        history = nodes.get("keras_history")
        if isinstance(history, list) and history:
            yield str(history[0])
        else:
            for value in nodes.values():
                yield from _sources(value)
    elif isinstance(nodes, list):
        if len(nodes) > 2 and isinstance(nodes[0], str) and all(type(n) is int for n in nodes[1:3]):
            yield nodes[0]
            nodes = nodes[3:]
        for value in nodes:
            yield from _sources(value)
