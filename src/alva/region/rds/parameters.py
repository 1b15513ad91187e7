"""Computes PostgreSQL's configuration from the instance class, the parameter group and the endpoint, as RDS does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GIB = 1024**3

# Memory in GiB (RDS User Guide, "Hardware specifications for DB instance classes").
CLASS_MEMORY_GIB: Mapping[str, float] = {
    "db.t3.micro": 1, "db.t3.small": 2, "db.t3.medium": 4, "db.t3.large": 8, "db.t3.xlarge": 16, "db.t3.2xlarge": 32,
    "db.t4g.micro": 1, "db.t4g.small": 2, "db.t4g.medium": 4, "db.t4g.large": 8, "db.t4g.xlarge": 16,
    "db.t4g.2xlarge": 32,
    "db.m5.large": 8, "db.m5.xlarge": 16, "db.m6g.large": 8, "db.m6g.xlarge": 16, "db.m6i.large": 8,
    "db.m6i.xlarge": 16,
    "db.m7g.large": 8, "db.m7g.xlarge": 16, "db.m7i.large": 8, "db.m7i.xlarge": 16,
    "db.r5.large": 16, "db.r6g.large": 16, "db.r6i.large": 16, "db.r7g.large": 16, "db.r7i.large": 16,
}  # fmt: skip

# Parameters of RDS that PostgreSQL does not have. The default of force_ssl is 1 since
# PostgreSQL 15 (RDS User Guide, "Using SSL with a PostgreSQL DB instance").
RDS_PARAMETERS: Mapping[str, str] = {"rds.force_ssl": "1", "rds.log_retention_period": "4320"}

# Parameters that RDS sets itself ("cannot be modified").
FIXED = (
   "listen_addresses", "port", "ssl", "ssl_cert_file", "ssl_key_file", "data_directory", "hba_file",
    "config_file", "unix_socket_directories", "logging_collector", "log_destination", "log_filename", "log_directory",
)  # fmt: skip


class UnknownParameter(ValueError):
    """The parameter group has a parameter that PostgreSQL does not have."""


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A server's address and port."""

    address: str
    port: int


def memory_bytes(instance_class: str) -> int:
    """The memory of an instance class. Raises ValueError with the known classes for an unknown one."""
    try:
        return int(CLASS_MEMORY_GIB[instance_class] * GIB)
    except KeyError:
        raise ValueError(
            f"Invalid DB Instance class: {instance_class}. The local region knows {', '.join(sorted(CLASS_MEMORY_GIB))}"
        ) from None


def vcpus(instance_class: str) -> int:
    """The virtual CPUs of an instance class that `memory_bytes` knows (same table)."""
    return {"xlarge": 4, "2xlarge": 8}.get(instance_class.rpartition(".")[2], 2)


def max_connections(instance_class: str) -> int:
    """LEAST({DBInstanceClassMemory/9531392}, 5000), RDS's default: 112 for 1 GiB."""
    return min(memory_bytes(instance_class) // 9531392, 5000)


def is_tls_forced(parameters: Mapping[str, str]) -> bool:
    """Whether a client without TLS is refused."""
    return parameters.get("rds.force_ssl", RDS_PARAMETERS["rds.force_ssl"]) == "1"


def check_names(parameters: Mapping[str, str], known: Mapping[str, str]) -> None:
    """Raise UnknownParameter, in RDS's words, for a name that is neither RDS's nor PostgreSQL's.

    `known` are PostgreSQL's parameters with their contexts.
    """
    for name in parameters:
        if name in FIXED:
            raise UnknownParameter(f"The parameter {name} cannot be modified")
        if name not in known and name not in RDS_PARAMETERS:
            raise UnknownParameter(f"Could not find parameter with name: {name}")


def needs_restart(changed: Mapping[str, str], known: Mapping[str, str]) -> bool:
    """Whether a parameter is static: a change applies only after a reboot."""
    return any(known.get(name) in ("postmaster", "internal") for name in changed)


def configuration(instance_class: str, parameters: Mapping[str, str], endpoint: Endpoint) -> str:
    """The text of postgresql.conf."""
    memory = memory_bytes(instance_class)
    settings = {
        # RDS's defaults for the class.
        "max_connections": str(max_connections(instance_class)),
        "shared_buffers": str(memory // 32768),
        "effective_cache_size": str(memory // 16384),
        "maintenance_work_mem": f"{max(memory * 1024 // 63963136, 65536)}kB",
        "log_line_prefix": "%t:%r:%u@%d:[%p]:",
        "log_timezone": "UTC",
        "timezone": "UTC",
        "log_checkpoints": "on",
        "password_encryption": "scram-sha-256",
        # POSIX shared memory would use the sandbox's small /dev/shm.
        "dynamic_shared_memory_type": "mmap",
        **{name: value for name, value in parameters.items() if name not in RDS_PARAMETERS},
        "listen_addresses": endpoint.address,
        "port": str(endpoint.port),
        "unix_socket_directories": "",
        "ssl": "on",
        "ssl_min_protocol_version": "TLSv1.2",
        "ssl_cert_file": "/var/lib/postgresql/certificate.pem",
        "ssl_key_file": "/var/lib/postgresql/key.pem",
        "hba_file": "/var/lib/postgresql/pg_hba.conf",
        "logging_collector": "off",
        "log_destination": "stderr",
    }
    return "".join(f"{name} = {_quoted(value)}\n" for name, value in settings.items())


def host_rules(parameters: Mapping[str, str]) -> str:
    """The text of pg_hba.conf: a password is always required, and TLS if it is forced."""
    kind = "hostssl" if is_tls_forced(parameters) else "host"
    return f"{kind} all all 0.0.0.0/0 scram-sha-256\n"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
