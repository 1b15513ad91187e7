"""The configuration of one local region: its ports, folders and addresses."""

from __future__ import annotations

import contextlib
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from alva.errors import UsageError

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, kw_only=True)
class RegionConfig:
    """The settings in which two regions on one machine differ.

    `loopback_octet` is the second octet of every address that the region hands out: the network interface 10.0.10.17
    is 127.<octet>.10.17 here. Two regions run side by side when their home, ports and octet differ.
    """

    home: Path
    api_port: int = 4566
    edge_port: int = 8080
    edge_tls_port: int = 8443
    inbox_port: int = 8025
    loopback_octet: int = 20
    network: str = "auto"
    """`namespaces`, `loopback`, or `auto`: the first where this machine allows it. See `network/`."""
    adverse_conditions: float = 0.0
    """Simulate AWS under load, with AWS's delays divided by this number; 0 is off. See `adverse_conditions.py`."""
    account_id: str = "000000000000"
    region: str = "us-east-1"

    @property
    def endpoint_url(self) -> str:
        """The AWS endpoint of this region."""
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def state_folder(self) -> Path:
        """Files that survive a restart: the control plane's state, databases, certificates, images."""
        return self.home / "state"

    @property
    def trust_bundle_file(self) -> Path:
        """The authorities that verify this region's load balancer certificates, PEM (see `certificates.py`)."""
        return self.state_folder / "certificates" / "trust-bundle.pem"

    @property
    def run_folder(self) -> Path:
        """Files that each start creates again: sockets, Envoy's configuration, hosts files, sandboxes."""
        return self.home / "run"

    @property
    def logs_folder(self) -> Path:
        """Output of the region's own processes (tasks' output goes to CloudWatch Logs)."""
        return self.home / "logs"

    @property
    def images_folder(self) -> Path:
        """The image store: builds write to it and tasks run from it."""
        return self.home / "images"

    @property
    def running_file(self) -> Path:
        """Present while the region runs: process id, ports and start time as JSON."""
        return self.home / "region.json"

    @classmethod
    def from_environment(cls, default_home: Path) -> Self:
        """Read ALVA_HOME, ALVA_LOOPBACK_OCTET, ALVA_NETWORK, ALVA_ADVERSE_CONDITIONS and
        ALVA_{API,EDGE,EDGE_TLS,INBOX}_PORT.
        """
        defaults = cls(home=default_home)

        def number(name: str, default: Number) -> Number:
            text = os.environ.get(name)
            if not text:
                return default
            with contextlib.suppress(ValueError):
                value = type(default)(text)
                if 0 <= value < math.inf:
                    return value
            raise UsageError(
                f"cannot read {name}: {text!r}; expected a number of 0 or more", next_step=f"correct or unset {name}"
            )

        return cls(
            home=Path(os.environ.get("ALVA_HOME", default_home)).absolute(),
            api_port=number("ALVA_API_PORT", defaults.api_port),
            edge_port=number("ALVA_EDGE_PORT", defaults.edge_port),
            edge_tls_port=number("ALVA_EDGE_TLS_PORT", defaults.edge_tls_port),
            inbox_port=number("ALVA_INBOX_PORT", defaults.inbox_port),
            loopback_octet=number("ALVA_LOOPBACK_OCTET", defaults.loopback_octet),
            network=os.environ.get("ALVA_NETWORK", defaults.network),
            adverse_conditions=number("ALVA_ADVERSE_CONDITIONS", defaults.adverse_conditions),
        )
