"""A region for ECS tests: network, cluster, images of small programs, and functions that wait."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alva.region.config import RegionConfig
from alva.region.images.registry import push
from alva.region.images.store import Configuration, ImageStore
from tests.conftest import RunningRegion, running_region
from tests.waiting import until

Json = dict[str, Any]

SERVER = """
import http.server, json, os, signal, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/slow":
            time.sleep(2)
        status = int(os.environ.get("STATUS", "200"))
        body = os.environ.get("GREETING", "hello").encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

def stop(*_):
    print("terminating", flush=True)
    sys.exit(0)

signal.signal(signal.SIGTERM, stop)
time.sleep(float(os.environ.get("STARTUP_SECONDS", "0")))
server = http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler)
print("listening on", server.server_address, flush=True)
server.serve_forever()
"""


EXECUTION_POLICY: Json = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["ecr:*", "logs:*", "secretsmanager:GetSecretValue"], "Resource": "*"}],
}


@dataclass
class Workbench:
    """A running region with a VPC, a cluster and a log group."""

    region: RunningRegion
    cluster: str = "workbench"
    log_group: str = "/workbench"
    subnets: list[str] = field(default_factory=list)
    security_group: str = ""
    vpc: str = ""

    @property
    def config(self) -> RegionConfig:
        return self.region.config

    def client(self, name: str) -> Any:
        """A boto3 client of the region; the same one for each call."""
        return self.region.client(name)

    @property
    def ecs(self) -> Any:
        return self.client("ecs")

    def prepare(self) -> None:
        ec2 = self.client("ec2")
        self.vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        ec2.attach_internet_gateway(VpcId=self.vpc, InternetGatewayId=gateway)
        for index, zone in enumerate(("us-east-1a", "us-east-1b")):
            subnet = ec2.create_subnet(VpcId=self.vpc, CidrBlock=f"10.0.{10 + index}.0/24", AvailabilityZone=zone)
            self.subnets.append(subnet["Subnet"]["SubnetId"])
        group = ec2.create_security_group(GroupName="tasks", Description="tasks", VpcId=self.vpc)
        self.security_group = group["GroupId"]
        ec2.authorize_security_group_ingress(
            GroupId=self.security_group,
            IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.0.0.0/16"}]}],
        )
        self.ecs.create_cluster(clusterName=self.cluster, capacityProviders=["FARGATE", "FARGATE_SPOT"])
        self.client("logs").create_log_group(logGroupName=self.log_group)
        self.role("execution", EXECUTION_POLICY)

    def role(self, name: str, policy: Json, service: str = "ecs-tasks.amazonaws.com") -> str:
        """Create a role that `service` may assume, with one inline policy; returns its ARN."""
        iam = self.client("iam")
        trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": service}}
        created = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}))
        iam.put_role_policy(RoleName=name, PolicyName="task", PolicyDocument=json.dumps(policy))
        return str(created["Role"]["Arn"])

    @property
    def network(self) -> Json:
        return {"awsvpcConfiguration": {"subnets": self.subnets, "securityGroups": [self.security_group]}}

    def image(self, program: str, name: str = "program", volumes: tuple[str, ...] = ("/tmp",)) -> str:  # noqa: S108
        """Build an image that runs a Python program; returns its reference by digest. `volumes` are its VOLUMEs."""
        store = ImageStore(self.config.images_folder)
        with store.work_folder() as work:
            tree = work / "tree"
            (tree / "app").mkdir(parents=True)
            (tree / "app" / "main.py").write_text(program)
            layer = store.add_step(f"{name}-{hash(program)}", tree)
        image = store.add(
            Configuration(
                base="python",
                environment={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOST": "0.0.0.0"},  # noqa: S104 - as in images
                working_directory="/app",
                user=(1000, 1000),
                entrypoint=("python3", "-u"),
                command=("/app/main.py",),
                volumes=volumes,
            ),
            [layer],
        )
        ecr = self.client("ecr")
        if name not in [r["repositoryName"] for r in ecr.describe_repositories()["repositories"]]:
            ecr.create_repository(repositoryName=name)
        digest = push(image, name, [digest_tag(image.digest)], ecr)
        return f"{self.config.account_id}.dkr.ecr.{self.config.region}.amazonaws.com/{name}@{digest}"

    def task_definition(self, family: str, *containers: Json, **more: Any) -> str:
        """Register a task definition whose containers log to the workbench's group; returns its ARN."""
        answer = self.ecs.register_task_definition(
            family=family,
            networkMode="awsvpc",
            requiresCompatibilities=["FARGATE"],
            cpu="256",
            memory="512",
            containerDefinitions=[{"logConfiguration": self.logs, **container} for container in containers],
            **{"executionRoleArn": f"arn:aws:iam::{self.config.account_id}:role/execution", **more},
        )
        return str(answer["taskDefinition"]["taskDefinitionArn"])

    @property
    def logs(self) -> Json:
        return {
            "logDriver": "awslogs",
            "options": {
                "awslogs-group": self.log_group,
                "awslogs-region": self.config.region,
                "awslogs-stream-prefix": "w",
            },
        }

    def run(self, definition: str, **more: Any) -> str:
        """Run one task; returns its ARN."""
        answer = self.ecs.run_task(
            cluster=self.cluster,
            taskDefinition=definition,
            launchType="FARGATE",
            **{"networkConfiguration": self.network, **more},
        )
        assert answer["failures"] == []
        return str(answer["tasks"][0]["taskArn"])

    def task(self, arn: str) -> Json:
        """The description of a task."""
        found: Json = self.ecs.describe_tasks(cluster=self.cluster, tasks=[arn])["tasks"][0]
        return found

    def stopped(self, arn: str) -> Json:
        """The task once it is STOPPED."""
        return until(lambda: (t := self.task(arn))["lastStatus"] == "STOPPED" and t, f"{arn} to be STOPPED")

    def running(self, arn: str) -> Json:
        """The task once it is RUNNING."""
        return until(lambda: (t := self.task(arn))["lastStatus"] == "RUNNING" and t, f"{arn} to be RUNNING")

    def log_lines(self, arn: str, container: str) -> list[str]:
        """A container's output in CloudWatch Logs."""
        stream = f"w/{container}/{arn.rpartition('/')[2]}"
        logs = self.client("logs")
        try:
            events = logs.get_log_events(logGroupName=self.log_group, logStreamName=stream, startFromHead=True)[
                "events"
            ]
        except logs.exceptions.ResourceNotFoundException:
            return []  # the stream does not exist yet
        return [event["message"] for event in events]

    def service(self, name: str) -> Json:
        """The description of a service."""
        found: Json = self.ecs.describe_services(cluster=self.cluster, services=[name])["services"][0]
        return found

    def create_service(self, name: str, definition: str, **more: Any) -> Json:
        created: Json = self.ecs.create_service(
            **{
                "cluster": self.cluster,
                "serviceName": name,
                "taskDefinition": definition,
                "desiredCount": 1,
                "launchType": "FARGATE",
                "networkConfiguration": self.network,
                **more,
            }
        )["service"]
        return created

    def tasks_of(self, name: str, status: str = "RUNNING") -> list[Json]:
        """The service's tasks with that desired status."""
        arns = self.ecs.list_tasks(cluster=self.cluster, serviceName=name, desiredStatus=status)["taskArns"]
        found: list[Json] = self.ecs.describe_tasks(cluster=self.cluster, tasks=arns)["tasks"] if arns else []
        return found

    def deployment(self, name: str) -> Json:
        """The service's latest service deployment."""
        briefs = self.ecs.list_service_deployments(cluster=self.cluster, service=name)["serviceDeployments"]
        found: Json = self.ecs.describe_service_deployments(serviceDeploymentArns=[briefs[0]["serviceDeploymentArn"]])[
            "serviceDeployments"
        ][0]
        return found

    def deployed(self, name: str, *, seconds: float = 60.0) -> Json:
        """The latest service deployment once it has ended."""
        over = ("SUCCESSFUL", "STOPPED", "ROLLBACK_SUCCESSFUL", "ROLLBACK_FAILED")
        what = f"the end of {name}'s deployment"
        return until(lambda: (d := self.deployment(name))["status"] in over and d, what, seconds=seconds)

    def events(self, name: str) -> list[str]:
        """The service's events, oldest first, without the service's name."""
        return [event["message"].removeprefix(f"(service {name}) ") for event in reversed(self.service(name)["events"])]


def digest_tag(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


@contextmanager
def running_workbench(home: Path) -> Iterator[Workbench]:
    """A separate region in `home`, stopped at the end."""
    with running_region(home) as region:
        yield Workbench(region)
