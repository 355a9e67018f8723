"""A run of which some variants failed: what looks at all variants looks at those that are left.

TFX resolves a union of channels within the run it belongs to, never from an older one, so a failed variant
leaves a gap there and no stale artifact. What is done here keeps the unions of a node in step: a variant is
in all of them or in none.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

FAILED = "failed"
"""Execution property that tells a node what failed: JSON, variant -> why."""
NOTHING = json.dumps({})
"""Its value where nothing failed."""
WHOLE_RUN = ("Resolver.statistics", "Resolver.report")
"""Nodes with a dot in their id that belong to no variant."""
NODE = re.compile(r"(Resolver\.(base|night)|\w+)\.")
"""What stands before the name of a line, which may hold dots of its own."""


def leave_out(node: Any, failures: Mapping[str, str]) -> bool:
    """Take the failed variants out of the unions of `node`, a node's IR, and tell it why they failed.

    failures: id of every node that failed or was left out -> its message, empty for the latter. Returns
    whether the node can run; where not, since more than single variants is missing, it is as it was.
    """
    inputs = node.inputs.inputs
    producers = {
        key: spec.channels[0].producer_node_query.id for key, spec in inputs.items() if spec.channels
    }
    unions = [spec.mixed_inputs.input_keys for spec in inputs.values() if spec.mixed_inputs.input_keys]
    lost = reasons(failures)
    kept = [[key for key in union if variant(producers[key]) not in lost] for union in unions]
    present = {producers[key] for union in unions for key in union}
    if not unions or not all(kept) or (failures.keys() & set(node.upstream_nodes)) - present:
        return False
    for union, keys in zip(unions, kept, strict=True):
        union[:] = keys
    if FAILED in node.parameters.parameters:
        shown = json.dumps(lost, sort_keys=True)  # the same failure again is the same request to TFX's cache
        node.parameters.parameters[FAILED].field_value.string_value = shown
    return True


def reasons(failures: Mapping[str, str]) -> dict[str, str]:
    """Return name of a line -> the first message of those of its nodes that failed.

    A line whose nodes were all left out, since its Transform failed, has the message of what failed before.
    """
    before = next((message for name, message in failures.items() if not variant(name) and message), "")
    found: dict[str, str] = {}
    for name, message in failures.items():
        if variant(name):
            found[variant(name)] = found.get(variant(name)) or message
    return {name: message or before for name, message in found.items()}


def variant(name: str) -> str:
    """Return the variant that a node belongs to: `cvae` of `Resolver.base.cvae`, empty for a node of all."""
    found = None if name in WHOLE_RUN else NODE.match(name)
    return name[found.end() :] if found else ""
