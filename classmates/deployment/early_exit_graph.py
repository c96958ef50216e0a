"""A network with early exits as one ONNX graph, in which what comes after an exit runs only if that was not sure.

The graph of all exits is cut by what each needs: the steps towards an exit that no shallower exit needed go into the
``else`` branch of the ``If`` after that one. The cut follows the data alone, so that it holds for any network.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from classmates.deployment.formats import Source, quiet, traced
from classmates.networks.backbone.observe import observe
from classmates.networks.heads.exits import MultiExit

if TYPE_CHECKING:
    import onnx

FLOAT, INT64 = 1, 7  # onnx.TensorProto's numbers of types


class EveryExit(nn.Module):
    """A network with exits as a tuple of each exit's logits, shallow to deep; none is made of another."""

    def __init__(self, exits: MultiExit):
        super().__init__()
        self.exits = exits

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        output = observe(self.exits.network, self.exits.architecture, images)
        shallow = self.exits.shallow
        maps = output.stages[-len(shallow) - 1 : -1]
        return *(exit_(stage)[0] for exit_, stage in zip(shallow.exits, maps, strict=True)), output.logits


def every_exit_model(exits: MultiExit, source: Source) -> onnx.ModelProto:
    """Return the ONNX model from one image to the logits of all exits, ``exit0``, ``exit1``, ..."""
    with quiet():
        program = torch.onnx.export(
            traced(EveryExit(exits), replace(source, dynamic_batch=False)),
            dynamo=True,
            input_names=["images"],
            output_names=[f"exit{number}" for number in range(len(exits.shallow) + 1)],
            verbose=False,
        )
    assert program is not None  # None is what the old, non-dynamo exporter returns
    return program.model_proto


def early_exit_model(every: onnx.ModelProto, classes: int, thresholds: Sequence[float]) -> onnx.ModelProto:
    """Return the ONNX model that answers one image early, made of that of all exits.

    Its input is ``images`` [1, C, H, W]. Its outputs are ``logits`` [1, K] and ``exit`` [1], the number of the exit
    that answered, from 0; the number of exits where none was sure and the mean of all their logits answers.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.ModelProto()
    model.CopyFrom(every)
    exits = [output.name for output in model.graph.output]
    parts = cut(model.graph.node, exits)
    used = [{name for node in part for name in node.input} for part in parts]
    weights: list[list[onnx.TensorProto]] = [[] for _ in parts]
    for weight in model.graph.initializer:  # deeper graphs see what those around them hold
        weights[next((place for place, names in enumerate(used) if weight.name in names), 0)].append(weight)
    weights[0].append(numpy_helper.from_array(np.array([1]), "class_axis"))

    graph = answer_of("Mean", exits, len(exits), classes)
    for number in reversed(range(len(exits))):
        threshold = numpy_helper.from_array(np.array(thresholds[number], np.float32), f"threshold{number}")
        sure = answer_of("Identity", [exits[number]], number, classes)
        choice = choose(exits[number], number, sure, graph)
        graph = make_graph(f"from_exit{number}", [*parts[number], *choice], classes, [*weights[number], threshold])
    graph.input.extend(model.graph.input)
    model.graph.CopyFrom(graph)
    return model


def choose(exit_: str, number: int, sure: onnx.GraphProto, deeper: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the steps that compare an exit's largest probability with its threshold, and go on accordingly."""
    from onnx.helper import make_node

    return [
        make_node("Softmax", [exit_], [f"{exit_}_probabilities"], axis=1),
        make_node("ReduceMax", [f"{exit_}_probabilities", "class_axis"], [f"{exit_}_largest"], keepdims=0),
        make_node("Greater", [f"{exit_}_largest", f"threshold{number}"], [f"{exit_}_is_sure"]),
        make_node("If", [f"{exit_}_is_sure"], outputs(f"from_{exit_}"), then_branch=sure, else_branch=deeper),
    ]


def answer_of(operation: str, logits: Sequence[str], number: int, classes: int) -> onnx.GraphProto:
    """Return the graph that gives logits as they are, or their mean, and the number of the exit."""
    from onnx import numpy_helper
    from onnx.helper import make_node

    name = f"{operation.lower()}{number}"
    of_logits, of_exit = outputs(name)
    value = numpy_helper.from_array(np.array([number]))
    nodes = [make_node(operation, logits, [of_logits]), make_node("Constant", [], [of_exit], value=value)]
    return make_graph(name, nodes, classes)


def make_graph(
    name: str, nodes: Sequence[onnx.NodeProto], classes: int, weights: Sequence[onnx.TensorProto] = ()
) -> onnx.GraphProto:
    """Return a graph without inputs of its own whose outputs are logits and the number of an exit."""
    from onnx import helper

    shapes = zip(outputs(name), (FLOAT, INT64), ([1, classes], [1]), strict=True)
    infos = [helper.make_tensor_value_info(output, kind, shape) for output, kind, shape in shapes]
    return helper.make_graph(nodes, name, [], infos, weights)


def outputs(graph: str) -> list[str]:
    """Return the names of a graph's outputs; those of the outermost are for whoever runs it."""
    return ["logits", "exit"] if graph == "from_exit0" else [f"{graph}_logits", f"{graph}_exit"]


def cut(nodes: Sequence[onnx.NodeProto], names: Iterable[str]) -> list[list[onnx.NodeProto]]:
    """Cut nodes in the order of computation into parts: what each output needs beyond those before it."""
    makers = {name: number for number, node in enumerate(nodes) for name in node.output}
    done: set[int] = set()
    parts = []
    for name in names:
        needed: set[int] = set()
        open_ends = [name]
        while open_ends:
            number = makers.get(open_ends.pop())
            if number is not None and number not in done | needed:
                needed.add(number)
                open_ends += nodes[number].input
        parts.append([nodes[number] for number in sorted(needed)])
        done |= needed
    return parts
