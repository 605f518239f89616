"""Print the graph of a model as text, its flow as code, or a summary of its stages.

TARGET is a model, a config.json (no weights needed: they count as f32), or the name of a recipe, which is
then shown with small example sizes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rlxflow.cli import console
from rlxflow.cli.exit_codes import OK
from rlxflow.cli.options import add_settings, chosen_profile
from rlxflow.errors import InputError, nearest, printable

if TYPE_CHECKING:
    from rlxflow.flow.flow import ModelFlow
    from rlxflow.ir.graph import Graph
    from rlxflow.profile.model import CompileProfile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", help="a model, a config.json or the name of a recipe")
    add_settings(parser)
    parser.add_argument("--policy", choices=("direct", "fusable"), help="keep block ops, or expand them")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--summary", action="store_true", help="stages, shapes and parameters instead")
    shown.add_argument("--code", action="store_true", help="the flow as code instead")


def run(args: argparse.Namespace) -> int:
    if args.policy:
        args.set = [*(args.set or ()), f"fusion.policy={args.policy}"]
    profile = chosen_profile(args)
    flow, graph = _flow_and_graph(args, profile)
    if args.json:
        console.print_json(
            {
                "name": flow.name,
                "digest": graph.digest,
                "nodes": len(graph.nodes),
                "inputs": {name: str(value.type) for name, value in graph.inputs.items()},
                "outputs": {name: str(value.type) for name, value in graph.outputs.items()},
                "states": {state.name: str(state.before.type) for state in graph.states},
                "parameters": flow.summary().parameters,
                "text": repr(flow) if args.code else str(flow.summary()) if args.summary else str(graph),
            }
        )
    elif args.code:
        print(repr(flow))
    elif args.summary:
        print(flow.summary())
    else:
        print(graph, end="")
    return OK


def _flow_and_graph(args: argparse.Namespace, profile: CompileProfile | None) -> tuple[ModelFlow, Graph]:
    from rlxflow.flow.recipe import recipe_names
    from rlxflow.inspect.declared import declared_flow, declared_graph, example_config
    from rlxflow.inspect.examine import examine
    from rlxflow.runtime.model_files import read_config

    path, recipes = Path(args.target), recipe_names()
    guess = nearest(args.target, recipes)
    if guess and args.target not in recipes and not path.exists():
        message = f"{printable(args.target)}: no such file, and no recipe of that name"
        raise InputError(message, code="RLX-R060", where="rlxflow build", hint=guess)
    if args.target in recipes and not path.exists():
        raw = example_config(args.target)
        if not args.quiet:
            console.note("example sizes: " + ", ".join(f"{name} {value}" for name, value in raw.items()))
        flow = declared_flow(raw, "example sizes", args.recipe)
        return flow, declared_graph(flow, profile)
    if path.suffix == ".json" and not path.name.endswith(".index.json"):
        flow = declared_flow(read_config(path), str(path), args.recipe)
        return flow, declared_graph(flow, profile)
    model = examine(args.target, profile, args.recipe)
    if model.flow is None or model.built is None:
        raise next(iter(model.errors.values()))
    return model.flow, model.built.graph
