"""Workers of one trial talk over loopback alone where their Ray does.

PyTorch (2.13) listens on all interfaces for the processes of a group, and whoever connects may use its store.
Imported only where trials have several workers.
"""

from __future__ import annotations

import importlib
import ipaddress
import os
import socket
from dataclasses import dataclass
from typing import Any

import psutil
import ray
import ray.train.torch
from ray.train.torch.config import _TorchBackend
from torch._C._distributed_c10d import TCPStore

INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


@dataclass
class PrivateTorchConfig(ray.train.torch.TorchConfig):  # type: ignore[misc]
    """Ray Train's, for workers that keep to loopback where they can."""

    @property
    def backend_cls(self) -> type[_PrivateBackend]:
        """What prepares the workers."""
        return _PrivateBackend


class _PrivateBackend(_TorchBackend):  # type: ignore[misc]
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        worker_group.execute(keep_to_loopback)
        super().on_start(worker_group, backend_config)


def keep_to_loopback() -> None:
    """Let the process groups of this process use loopback alone, where the node of its Ray does."""
    if not ipaddress.ip_address(ray.util.get_node_ip_address()).is_loopback:
        return
    for name in INTERFACES:
        os.environ.setdefault(name, _loopback_interface())
    setattr(importlib.import_module("torch.distributed.rendezvous"), "TCPStore", private_store)  # noqa: B010


def private_store(*, host_name: str, port: int, is_master: bool = False, **settings: Any) -> TCPStore:
    """A store at `host_name` which, where it is the one that the others connect to, listens there alone."""
    if is_master:
        family = socket.AF_INET6 if ":" in host_name else socket.AF_INET
        settings["master_listen_fd"] = socket.create_server((host_name, port), family=family).detach()
    return TCPStore(host_name=host_name, port=port, is_master=is_master, **settings)


def _loopback_interface() -> str:
    return next(
        str(name)
        for name, addresses in psutil.net_if_addrs().items()
        if any(each.family == socket.AF_INET and each.address.startswith("127.") for each in addresses)
    )
