"""ElastiCache in the region: a real Valkey behind TLS and AUTH, with ElastiCache's limits and configuration."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from alva.region import daemon
from alva.region.elasticache import metrics
from alva.region.engine_metrics import Usage
from tests.conftest import RunningRegion, running_region
from tests.region.control_plane.test_databases import network
from tests.region.processes.found import engines
from tests.region_network import is_enforced, network_of
from tests.waiting import until

pytestmark = pytest.mark.region

TOKEN = "a-token-of-more-than-sixteen"


def template(policy: str = "noeviction", **properties: Any) -> dict[str, Any]:
    return {
        "Resources": {
            **network(),
            "SubnetGroup": {
                "Type": "AWS::ElastiCache::SubnetGroup",
                "Properties": {"Description": "private", "SubnetIds": [{"Ref": "SubnetA"}, {"Ref": "SubnetB"}]},
            },
            "Parameters": {
                "Type": "AWS::ElastiCache::ParameterGroup",
                "Properties": {
                    "CacheParameterGroupFamily": "redis7",
                    "Description": "ours",
                    "Properties": {"maxmemory-policy": policy},
                },
            },
            "Group": {
                "Type": "AWS::ElastiCache::ReplicationGroup",
                "Properties": {
                    "ReplicationGroupId": "test-cache",
                    "ReplicationGroupDescription": "queue",
                    "Engine": "redis",
                    "EngineVersion": "7.1",
                    "CacheNodeType": "cache.t3.micro",
                    "NumCacheClusters": 1,
                    "TransitEncryptionEnabled": True,
                    "AuthToken": TOKEN,
                    "CacheSubnetGroupName": {"Ref": "SubnetGroup"},
                    "CacheParameterGroupName": {"Ref": "Parameters"},
                    **properties,
                },
            },
        },
        "Outputs": {"Host": {"Value": {"Fn::GetAtt": ["Group", "PrimaryEndPoint.Address"]}}},
    }


class Cache:
    """A region with one replication group."""

    def __init__(self, region: RunningRegion) -> None:
        self.region = region
        self.host = region.create("cache", template()).outputs["Host"]
        self.exists = True

    @property
    def address(self) -> str:
        hosts = (self.region.config.run_folder / "names/hosts").read_text().splitlines()
        return next(line.split()[0] for line in hosts if line.endswith(f" {self.host}"))

    def connect(self) -> socket.socket:
        with network_of(self.region.config, self.address):
            return socket.create_connection((self.address, 6379), timeout=5)

    def send(self, *commands: tuple[str, ...], token: str | None = TOKEN) -> str:
        """Send commands over one verified connection; returns the first line (or the bulk) of the last answer."""
        context = ssl.create_default_context(cafile=str(self.region.config.state_folder / "certificates/authority.pem"))
        answer = ""
        with (
            self.connect() as plain,
            context.wrap_socket(plain, server_hostname=self.host) as connection,
            connection.makefile("rwb") as stream,
        ):
            for command in [("AUTH", token), *commands] if token else commands:
                parts = [part.encode() for part in command]
                stream.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts))
                stream.flush()
                answer = stream.readline().decode().rstrip()
                if answer.startswith("$") and answer != "$-1":
                    answer = stream.read(int(answer[1:]) + 2).decode().rstrip()
        return answer

    def answers(self) -> bool:
        try:
            return self.send(("PING",)) == "+PONG"
        except OSError:
            return False


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Cache]]:
    """The one cache of the module, in a list because `cache` replaces it."""
    with running_region(tmp_path_factory.mktemp("cache")) as region:
        yield [Cache(region)]


@pytest.fixture
def cache(shared: list[Cache]) -> Cache:
    """The module's cache, created again if a test has deleted it."""
    shared[0] = shared[0] if shared[0].exists else Cache(shared[0].region)
    return shared[0]


def test_a_verifying_client_with_the_token_is_served(cache: Cache) -> None:
    assert cache.send(("PING",)) == "+PONG"
    assert cache.host.startswith("master.test-cache.")
    assert cache.host.endswith(".use1.cache.amazonaws.com")
    (group,) = cache.region.client("elasticache").describe_replication_groups()["ReplicationGroups"]
    assert group["MemberClusters"] == ["test-cache-001"]


def test_without_the_token_nothing_is_answered(cache: Cache) -> None:
    assert cache.send(("PING",), token=None) == "-NOAUTH Authentication required."
    assert cache.send(token="wrong-token-wrong-token").startswith("-WRONGPASS")


def test_connection_without_tls_gets_no_answer(cache: Cache) -> None:
    with cache.connect() as plain:
        plain.sendall(b"PING\r\n")
        plain.settimeout(3)
        try:
            answer = plain.recv(64)
        except OSError:
            answer = b""
    assert b"PONG" not in answer
    assert b"NOAUTH" not in answer


def test_memory_and_policy_are_the_node_types_and_the_parameter_groups(cache: Cache) -> None:
    memory = dict(line.split(":", 1) for line in cache.send(("INFO", "memory")).splitlines() if ":" in line)
    assert memory["maxmemory_policy"] == "noeviction"
    assert int(memory["maxmemory"]) == 536870912 * 3 // 4


@pytest.mark.parametrize("command", [("CONFIG", "GET", "*"), ("SAVE",), ("SHUTDOWN",), ("DEBUG", "JMAP")])
def test_restricted_commands_are_unknown(cache: Cache, command: tuple[str, ...]) -> None:
    assert cache.send(command).startswith("-ERR unknown command")


def test_scripts_run_as_the_queue_needs_them(cache: Cache) -> None:
    assert cache.send(("EVAL", "return redis.call('INCRBY', KEYS[1], 2)", "1", "counted")) == ":2"


def test_a_changed_parameter_reaches_the_running_node(cache: Cache) -> None:
    cache.send(("SET", "before", "1"))
    assert cache.region.update("cache", template("allkeys-lru")).status == "UPDATE_COMPLETE"
    assert "maxmemory_policy:allkeys-lru" in cache.send(("INFO", "memory"))
    assert cache.send(("GET", "before")) == "1"
    cache.region.update("cache", template())


@pytest.mark.nightly  # It waits for the next publication, up to 15 s.
def test_metrics_of_the_node_reach_cloudwatch(cache: Cache) -> None:
    def latest(metric: str) -> float | None:
        answer = cache.region.client("cloudwatch").get_metric_statistics(
            Namespace="AWS/ElastiCache",
            MetricName=metric,
            Dimensions=[{"Name": "CacheClusterId", "Value": "test-cache-001"}],
            StartTime=datetime.now(UTC) - timedelta(minutes=5),
            EndTime=datetime.now(UTC) + timedelta(minutes=5),
            Period=1,
            Statistics=["Maximum"],
        )
        points = sorted(answer["Datapoints"], key=lambda point: point["Timestamp"])
        return float(points[-1]["Maximum"]) if points else None

    cache.send(("SET", "large", "x" * 20_000_000))
    until(lambda: (latest("DatabaseMemoryUsagePercentage") or 0) >= 3, "the use of memory")
    cache.send(("DEL", "large"))
    assert (latest("CurrItems") or 0) >= 1
    assert (latest("CurrConnections") or 0) >= 1
    assert latest("Evictions") == 0
    assert 2**28 < (latest("FreeableMemory") or 0) < 2**29


def test_counters_are_differences_also_across_a_restart() -> None:
    def seen(evicted: int, at: float) -> tuple[Usage, dict[str, str]]:
        text = f"""# Memory
used_memory:300
maxmemory:400
connected_clients:5
evicted_keys:{evicted}
expired_keys:0
total_connections_received:9
keyspace_hits:0
keyspace_misses:0
db0:keys=2,expires=0,avg_ttl=0
db3:keys=5,expires=0,avg_ttl=0
"""
        return Usage(cpu_seconds=at / 2, memory_bytes=100, at=at), metrics.read_info(text)

    data = metrics.data(seen(10, 20.0), seen(17, 30.0), memory_bytes=1000)
    assert data["Evictions"] == (7.0, "Count")
    assert data["DatabaseMemoryUsagePercentage"] == (75.0, "Percent")
    assert data["CurrItems"] == (7.0, "Count")
    assert data["EngineCPUUtilization"] == (50.0, "Percent")
    assert data["FreeableMemory"] == (900.0, "Bytes")
    assert metrics.data(seen(10, 20.0), seen(4, 30.0), memory_bytes=1000)["Evictions"] == (4.0, "Count")


def test_its_node_is_in_a_network_of_its_own(cache: Cache) -> None:
    if not is_enforced(cache.region.config):
        pytest.skip("the region has loopback addresses")
    known = json.loads((cache.region.config.run_folder / "network.json").read_text())
    (node,) = engines(cache.region.config.home, "valkey-server")
    own = Path(f"/proc/{node}/ns/net").stat().st_ino
    assert Path(known["addresses"][cache.address]).stat().st_ino == own
    assert Path(known["services"]).stat().st_ino != own


def test_rotation_keeps_the_old_token_beside_the_new_one(cache: Cache) -> None:
    new = "another-token-of-more-than-sixteen"
    assert cache.region.update("cache", template(AuthToken=new)).status == "UPDATE_COMPLETE"
    assert cache.send(("PING",), token=new) == "+PONG"
    assert cache.send(("PING",), token=TOKEN) == "+PONG"
    assert cache.region.update("cache", template()).status == "UPDATE_COMPLETE"
    assert cache.send(("PING",)) == "+PONG"


def test_an_unknown_parameter_is_refused(cache: Cache) -> None:
    changed = template()
    changed["Resources"]["Parameters"]["Properties"]["Properties"]["no-such"] = "1"
    stack = cache.region.update("cache", changed)
    assert stack.status == "UPDATE_ROLLBACK_COMPLETE"
    assert "Could not find parameter with name: no-such" in stack.reason("Parameters", "UPDATE_FAILED")


def test_queued_data_survive_stop_and_start_of_the_region(cache: Cache) -> None:
    cache.send(("RPUSH", "jobs", "one", "two"))
    daemon.stop(cache.region.config)
    daemon.start(cache.region.config)
    assert cache.send(("LLEN", "jobs")) == ":2"


def test_crashed_engine_is_restarted_on_its_data(cache: Cache) -> None:
    cache.send(("RPUSH", "written", "one"))
    (killed,) = engines(cache.region.config.home, "valkey-server")
    os.kill(killed, signal.SIGKILL)
    until(
        lambda: engines(cache.region.config.home, "valkey-server") not in ([], [killed]) and cache.answers(),
        "Valkey to come back",
    )
    assert cache.send(("LLEN", "written")) == ":1"


def test_operations_without_a_node_are_refused(cache: Cache) -> None:
    with pytest.raises(ClientError, match="the local region does not have ElastiCache CreateCacheCluster"):
        cache.region.client("elasticache").create_cache_cluster(CacheClusterId="other")


def test_deletion_removes_name_and_node(cache: Cache) -> None:
    address = cache.address
    cache.exists = False
    assert cache.region.delete("cache").status == "DELETE_COMPLETE"
    with pytest.raises(StopIteration):
        _ = cache.address
    with network_of(cache.region.config, address), pytest.raises(OSError):  # noqa: PT011 - refused or timed out
        socket.create_connection((address, 16379), timeout=2).close()
