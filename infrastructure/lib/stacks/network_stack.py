"""The VPC, its subnets and routes, and every security group.

All security groups and their rules are here. Rules in the stacks that use them would create cycles between stacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from constructs import Construct

from lib.config.environments import Environment
from lib.config.settings import Subnet as SubnetSettings
from lib.constructs.accepted_findings import accept
from lib.constructs.flow_logs import FlowLogs
from lib.constructs.nat_instance import NatInstance
from lib.stacks.environment_stack import EnvironmentStack

POSTGRESQL_PORT = 5432
REDIS_PORT = 6379
ANYWHERE = "0.0.0.0/0"

# EC2 adds an egress rule for all traffic to a group that has none. This rule matches no traffic.
NO_EGRESS = ec2.CfnSecurityGroup.EgressProperty(
    ip_protocol="icmp", from_port=252, to_port=86, cidr_ip="255.255.255.255/32", description="No egress"
)


class NetworkStack(EnvironmentStack):
    """Attributes: `vpc_id`, `public_subnet_ids`, `private_subnet_ids` and the four `*_security_group_id`s."""

    def __init__(self, scope: Construct, *, environment: Environment) -> None:
        super().__init__(
            scope, "network", environment=environment, description="VPC, subnets, routes and security groups"
        )
        settings = environment.network
        self.vpc = ec2.CfnVPC(
            self,
            "Vpc",
            cidr_block=settings.cidr_block,
            enable_dns_hostnames=True,
            enable_dns_support=True,
            tags=[_name(environment.prefix)],
        )
        self.vpc_id = self.vpc.ref

        gateway = ec2.CfnInternetGateway(self, "InternetGateway", tags=[_name(environment.prefix)])
        self._attachment = ec2.CfnVPCGatewayAttachment(
            self, "InternetGatewayAttachment", vpc_id=self.vpc_id, internet_gateway_id=gateway.ref
        )
        public = [self._subnet("Public", each, public=True) for each in settings.public_subnets]
        private = [self._subnet("Private", each, public=False) for each in settings.private_subnets]
        self.public_subnet_ids = [subnet.ref for subnet in public]
        self.private_subnet_ids = [subnet.ref for subnet in private]

        public_table = self._route_table("Public", public, settings.public_subnets)
        internet = ec2.CfnRoute(
            self,
            "PublicInternetRoute",
            route_table_id=public_table.ref,
            destination_cidr_block=ANYWHERE,
            gateway_id=gateway.ref,
        )
        internet.add_resource_dependency(self._attachment)

        private_tables = [
            self._route_table(f"Private{_zone(each)}", [subnet], [each])
            for subnet, each in zip(private, settings.private_subnets, strict=True)
        ]
        if settings.nat != "instance":
            self._nat_gateways(public, private_tables)
        ec2.CfnVPCEndpoint(
            self,
            "S3Endpoint",
            vpc_id=self.vpc_id,
            # Image layers come from S3. Through this gateway they are free; NAT gateways bill them.
            service_name=f"com.amazonaws.{environment.region}.s3",
            vpc_endpoint_type="Gateway",
            route_table_ids=[table.ref for table in private_tables],
        )
        self._security_groups()
        if settings.nat == "instance":
            # After the security groups, because it needs one.
            nat = NatInstance(
                self,
                "Nat",
                instance_type=settings.nat_instance_type,
                prefix=environment.prefix,
                vpc_id=self.vpc_id,
                public_subnet_id=self.public_subnet_ids[0],
                client_security_group_id=self.ecs_security_group_id,
                after=self._attachment,
            )
            for table, each in zip(private_tables, settings.private_subnets, strict=True):
                ec2.CfnRoute(
                    self,
                    f"Private{_zone(each)}InternetRoute",
                    route_table_id=table.ref,
                    destination_cidr_block=ANYWHERE,
                    instance_id=nat.instance_id,
                )
        if not settings.flow_logs:
            accept(
                self.vpc,
                "Staging does not need flow logs at their cost (setting: network.flow_logs)",
                "AwsSolutions-VPC7",
            )
        else:
            FlowLogs(self, "FlowLogs", vpc_id=self.vpc_id, environment=environment)

        self.keep_exported(
            self.vpc_id,
            *self.public_subnet_ids,
            *self.private_subnet_ids,
            self.alb_security_group_id,
            self.ecs_security_group_id,
            self.rds_security_group_id,
            self.redis_security_group_id,
        )
        cdk.CfnOutput(self, "PrivateSubnetIds", value=cdk.Fn.join(",", self.private_subnet_ids))
        cdk.CfnOutput(self, "EcsSecurityGroupId", value=self.ecs_security_group_id)

    def _subnet(self, kind: str, subnet: SubnetSettings, *, public: bool) -> ec2.CfnSubnet:
        resource = ec2.CfnSubnet(
            self,
            f"{kind}Subnet{_zone(subnet)}",
            vpc_id=self.vpc_id,
            cidr_block=subnet.cidr_block,
            availability_zone=subnet.availability_zone,
            map_public_ip_on_launch=public,
            tags=[_name(f"{self.environment_settings.prefix}-{kind.lower()}-{subnet.availability_zone}")],
        )
        accept(resource, "A chosen zone: a subnet that moves to another one is replaced, with all in it", "W3010")
        return resource

    def _route_table(
        self, name: str, subnets: Sequence[ec2.CfnSubnet], settings: Sequence[SubnetSettings]
    ) -> ec2.CfnRouteTable:
        table = ec2.CfnRouteTable(
            self,
            f"{name}RouteTable",
            vpc_id=self.vpc_id,
            tags=[_name(f"{self.environment_settings.prefix}-{name.lower()}")],
        )
        for subnet, each in zip(subnets, settings, strict=True):
            ec2.CfnSubnetRouteTableAssociation(
                self,
                f"{name}RouteTableOf{_zone(each)}",
                route_table_id=table.ref,
                subnet_id=subnet.ref,
            )
        return table

    def _nat_gateways(self, public: Sequence[ec2.CfnSubnet], private_tables: Sequence[ec2.CfnRouteTable]) -> None:
        settings = self.environment_settings.network
        count = len(private_tables) if settings.nat == "gateway-per-zone" else 1
        gateways = []
        for subnet, each in list(zip(public, settings.public_subnets, strict=True))[:count]:
            address = ec2.CfnEIP(self, f"NatAddress{_zone(each)}", domain="vpc")
            address.add_resource_dependency(self._attachment)
            gateways.append(
                ec2.CfnNatGateway(
                    self,
                    f"NatGateway{_zone(each)}",
                    subnet_id=subnet.ref,
                    allocation_id=address.attr_allocation_id,
                    tags=[_name(f"{self.environment_settings.prefix}-{each.availability_zone}")],
                )
            )
        for index, (table, each) in enumerate(zip(private_tables, settings.private_subnets, strict=True)):
            ec2.CfnRoute(
                self,
                f"Private{_zone(each)}InternetRoute",
                route_table_id=table.ref,
                destination_cidr_block=ANYWHERE,
                nat_gateway_id=gateways[index % count].ref,
            )

    def _security_groups(self) -> None:
        environment = self.environment_settings
        service_ports = contiguous_ranges(service.port for service in environment.services if service.port is not None)
        listener_ports = (80, 443) if environment.has_https else (80,)

        database = self._security_group("rds", "The database: from tasks only", egress=[NO_EGRESS])
        redis = self._security_group("redis", "The cache: from tasks only", egress=[NO_EGRESS])
        ecs = self._security_group(
            "ecs",
            "Tasks: from the load balancer and from each other",
            egress=[
                _to_group(database.attr_group_id, POSTGRESQL_PORT, "The database"),
                _to_group(redis.attr_group_id, REDIS_PORT, "The cache"),
                ec2.CfnSecurityGroup.EgressProperty(
                    ip_protocol="tcp",
                    from_port=443,
                    to_port=443,
                    cidr_ip=ANYWHERE,
                    description="AWS APIs, the registry, OpenAI and Resend",
                ),
            ],
        )
        alb = self._security_group(
            "alb",
            "The load balancer: from anywhere, on the ports that it listens on",
            ingress=[
                ec2.CfnSecurityGroup.IngressProperty(
                    ip_protocol="tcp",
                    from_port=port,
                    to_port=port,
                    cidr_ip=ANYWHERE,
                    description=f"Port {port} from anywhere",
                )
                for port in listener_ports
            ],
            egress=[_to_group(ecs.attr_group_id, first, "Tasks", last=last) for first, last in service_ports],
        )
        accept(alb, "It serves the internet", "AwsSolutions-EC23", "CKV_AWS_260")
        for first, last in service_ports:
            ports = f"{first}" if first == last else f"{first}To{last}"
            self._ingress(f"EcsFromAlb{ports}", ecs, alb, first, last, "From the load balancer")
            # Without this rule, services could not call each other.
            self._ingress(f"EcsFromEcs{ports}", ecs, ecs, first, last, "From service to service")
            ec2.CfnSecurityGroupEgress(
                self,
                f"EcsToEcs{ports}",
                group_id=ecs.attr_group_id,
                ip_protocol="tcp",
                from_port=first,
                to_port=last,
                destination_security_group_id=ecs.attr_group_id,
                description="From service to service",
            )
        self._ingress("RdsFromEcs", database, ecs, POSTGRESQL_PORT, POSTGRESQL_PORT, "PostgreSQL from tasks")
        self._ingress("RedisFromEcs", redis, ecs, REDIS_PORT, REDIS_PORT, "Redis from tasks")

        self.alb_security_group_id = alb.attr_group_id
        self.ecs_security_group_id = ecs.attr_group_id
        self.rds_security_group_id = database.attr_group_id
        self.redis_security_group_id = redis.attr_group_id

    def _security_group(
        self,
        name: str,
        description: str,
        *,
        egress: list[ec2.CfnSecurityGroup.EgressProperty],
        ingress: list[ec2.CfnSecurityGroup.IngressProperty] | None = None,
    ) -> ec2.CfnSecurityGroup:
        group_name = f"{self.environment_settings.prefix}-{name}"
        return ec2.CfnSecurityGroup(
            self,
            f"{name.capitalize()}SecurityGroup",
            group_name=group_name,
            group_description=description,
            vpc_id=self.vpc_id,
            security_group_ingress=ingress,
            security_group_egress=egress,
            tags=[_name(group_name)],
        )

    def _ingress(
        self,
        construct_id: str,
        group: ec2.CfnSecurityGroup,
        source: ec2.CfnSecurityGroup,
        first: int,
        last: int,
        description: str,
    ) -> None:
        ec2.CfnSecurityGroupIngress(
            self,
            construct_id,
            group_id=group.attr_group_id,
            ip_protocol="tcp",
            from_port=first,
            to_port=last,
            source_security_group_id=source.attr_group_id,
            description=description,
        )


def contiguous_ranges(ports: Iterable[int]) -> list[tuple[int, int]]:
    """Return the fewest ranges with exactly these ports: 3000, 3001, 3005 give (3000, 3001) and (3005, 3005)."""
    ranges: list[tuple[int, int]] = []
    for port in sorted(set(ports)):
        if ranges and ranges[-1][1] == port - 1:
            ranges[-1] = (ranges[-1][0], port)
        else:
            ranges.append((port, port))
    return ranges


def _to_group(group_id: str, first: int, what: str, *, last: int | None = None) -> ec2.CfnSecurityGroup.EgressProperty:
    return ec2.CfnSecurityGroup.EgressProperty(
        ip_protocol="tcp",
        from_port=first,
        to_port=last or first,
        destination_security_group_id=group_id,
        description=what,
    )


def _name(value: str) -> cdk.CfnTag:
    return cdk.CfnTag(key="Name", value=value)


def _zone(subnet: SubnetSettings) -> str:
    """Return `A` for us-east-1a."""
    return subnet.availability_zone[-1].upper()
