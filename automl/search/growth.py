"""How large the autoscaler may make a cluster: Ray does not say (2.60), the file that it was started with does."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

CONFIG = "AUTOML_CLUSTER_CONFIG"
BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")  # where `ray up` leaves it on the head


def greatest_resources() -> dict[str, float]:
    """The resources of all nodes that the autoscaler may start; nothing where its file is not on this machine.

    The file is `ray up`'s on a cluster's head, or the one that AUTOML_CLUSTER_CONFIG names.
    """
    path = Path(os.environ.get(CONFIG) or BOOTSTRAP).expanduser()
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError):
        return {}
    return _greatest(content) if isinstance(content, Mapping) else {}


def _greatest(content: Mapping[str, Any]) -> dict[str, float]:
    """Of each resource what there is with as many nodes of the types that have most of it as there may be."""
    types = [
        each for name, each in content.get("available_node_types", {}).items() if name != content.get("head_node_type")
    ]
    most = int(content.get("max_workers", 0))
    names = {name for each in types for name in each.get("resources", {})}
    found = {}
    for name in names:
        left, total = most, 0.0
        for each in sorted(types, key=lambda each: -float(each.get("resources", {}).get(name, 0))):
            count = min(left, int(each.get("max_workers", most)))
            left -= count
            total += count * float(each.get("resources", {}).get(name, 0))
        found[name] = total
    return found
