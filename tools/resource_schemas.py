"""Writes src/alva/region/cloudformation/schemas.json: the parts of AWS's resource type schemas that the region uses.

    .venv/bin/python tools/resource_schemas.py

The source is AWS's registry of CloudFormation types (us-east-1), a copy of which is in the pinned cfn-lint. The file
has the names of the properties, the required ones, and those that can only be set at creation. The services validate
the values. Run it after an update of cfn-lint, or for a new resource type.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cfnlint  # type: ignore[import-untyped]

from alva.region.cloudformation.schemas import FILE

# The types that the region offers.
TYPES = [
    "AWS::ApplicationAutoScaling::ScalableTarget",
    "AWS::ApplicationAutoScaling::ScalingPolicy",
    "AWS::Budgets::Budget",
    "AWS::CDK::Metadata",
    "AWS::CertificateManager::Certificate",
    "AWS::CloudFormation::WaitCondition",
    "AWS::CloudFormation::WaitConditionHandle",
    "AWS::CloudWatch::Alarm",
    "AWS::CloudWatch::CompositeAlarm",
    "AWS::CloudWatch::Dashboard",
    "AWS::EC2::EIP",
    "AWS::EC2::FlowLog",
    "AWS::EC2::InternetGateway",
    "AWS::EC2::LaunchTemplate",
    "AWS::EC2::NatGateway",
    "AWS::EC2::Route",
    "AWS::EC2::RouteTable",
    "AWS::EC2::SecurityGroup",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::EC2::SecurityGroupIngress",
    "AWS::EC2::Subnet",
    "AWS::EC2::SubnetRouteTableAssociation",
    "AWS::EC2::VPC",
    "AWS::EC2::VPCEndpoint",
    "AWS::EC2::VPCGatewayAttachment",
    "AWS::ECR::Repository",
    "AWS::ECS::Cluster",
    "AWS::ECS::ClusterCapacityProviderAssociations",
    "AWS::ECS::Service",
    "AWS::ECS::TaskDefinition",
    "AWS::ElastiCache::ParameterGroup",
    "AWS::ElastiCache::ReplicationGroup",
    "AWS::ElastiCache::SubnetGroup",
    "AWS::ElasticLoadBalancingV2::Listener",
    "AWS::ElasticLoadBalancingV2::ListenerCertificate",
    "AWS::ElasticLoadBalancingV2::ListenerRule",
    "AWS::ElasticLoadBalancingV2::LoadBalancer",
    "AWS::ElasticLoadBalancingV2::TargetGroup",
    "AWS::Events::EventBus",
    "AWS::Events::Rule",
    "AWS::IAM::InstanceProfile",
    "AWS::IAM::ManagedPolicy",
    "AWS::IAM::OIDCProvider",
    "AWS::IAM::Policy",
    "AWS::IAM::Role",
    "AWS::IAM::User",
    "AWS::KMS::Alias",
    "AWS::KMS::Key",
    "AWS::Logs::LogGroup",
    "AWS::Logs::LogStream",
    "AWS::Logs::MetricFilter",
    "AWS::Logs::QueryDefinition",
    "AWS::Logs::ResourcePolicy",
    "AWS::Logs::SubscriptionFilter",
    "AWS::RDS::DBInstance",
    "AWS::RDS::DBParameterGroup",
    "AWS::RDS::DBSubnetGroup",
    "AWS::Route53::HostedZone",
    "AWS::Route53::RecordSet",
    "AWS::S3::AccessPoint",
    "AWS::S3::Bucket",
    "AWS::S3::BucketPolicy",
    "AWS::S3::MultiRegionAccessPoint",
    "AWS::SecretsManager::ResourcePolicy",
    "AWS::SecretsManager::RotationSchedule",
    "AWS::SecretsManager::Secret",
    "AWS::SecretsManager::SecretTargetAttachment",
    "AWS::ServiceDiscovery::HttpNamespace",
    "AWS::ServiceDiscovery::Instance",
    "AWS::ServiceDiscovery::PrivateDnsNamespace",
    "AWS::ServiceDiscovery::PublicDnsNamespace",
    "AWS::ServiceDiscovery::Service",
    "AWS::SNS::Subscription",
    "AWS::SNS::Topic",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::Queue",
    "AWS::SQS::QueuePolicy",
    "AWS::SSM::Parameter",
    "AWS::WAFv2::WebACL",
    "AWS::WAFv2::WebACLAssociation",
]

# WAF statements are recursive. Real ones are not nested deeper.
MAXIMUM_DEPTH = 6


def main() -> None:
    """Write the file."""
    FILE.write_text(contents())
    print(f"{FILE}: {len(TYPES)} types, {FILE.stat().st_size} bytes")


def contents() -> str:
    """Return the content of the file."""
    folder = Path(cfnlint.__file__).parent / "data/schemas"
    index = json.loads((folder / "providers/us-east-1.json").read_text())
    schemas = {}
    for type_name in sorted(TYPES):
        schema = json.loads((folder / "resources" / f"{index[type_name]}.json").read_text())
        schemas[type_name] = {
            **node(schema, schema.get("definitions", {}), 0),
            "create_only": sorted(top_level(schema.get("createOnlyProperties", []))),
            "read_only": sorted(top_level(schema.get("readOnlyProperties", []))),
        }
    return json.dumps(schemas, indent=0, separators=(",", ":"), sort_keys=True) + "\n"


def node(schema: dict[str, Any], definitions: dict[str, Any], depth: int) -> dict[str, Any]:
    """Return the part of a schema that is kept. {} means any value."""
    while "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if depth > MAXIMUM_DEPTH:
        return {}
    if "items" in schema:
        return {"items": node(schema["items"], definitions, depth + 1)}
    properties = schema.get("properties")
    # A map with arbitrary keys has patternProperties. A value with alternative forms has oneOf.
    if not properties or schema.get("additionalProperties") or schema.get("patternProperties"):
        return {}
    return {
        "properties": {name: node(each, definitions, depth + 1) for name, each in sorted(properties.items())},
        "required": sorted(schema.get("required", [])),
    }


def top_level(pointers: list[str]) -> set[str]:
    """Return the top-level properties in JSON pointers. The type's handler evaluates deeper pointers."""
    return {found[1] for pointer in pointers if (found := re.fullmatch(r"/properties/([^/]+)", pointer))}


if __name__ == "__main__":
    main()
