"""Whether a changed property replaces its resource, and when that is refused."""

from __future__ import annotations

from alva.region.cloudformation import schemas
from alva.region.cloudformation.registry import Properties

# AWS's references name conditions under which a change of these properties replaces the resource ("Update requires").
# The type's handler decides whether a change replaces it.
_CONDITIONAL = {
    "AWS::ElastiCache::ReplicationGroup": ("AuthToken", "NodeGroupConfiguration", "NumNodeGroups"),
    "AWS::RDS::DBInstance": (
        "AutoMinorVersionUpgrade", "AvailabilityZone", "BackupRetentionPeriod", "DBClusterSnapshotIdentifier",
        "DBParameterGroupName", "DBSnapshotIdentifier", "Engine", "MultiAZ", "PerformanceInsightsKMSKeyId",
        "PreferredMaintenanceWindow", "RestoreTime", "SourceDBClusterIdentifier", "SourceDBInstanceAutomatedBackupsArn",
        "SourceDBInstanceIdentifier", "SourceDbiResourceId", "UseLatestRestorableTime",
    ),
}  # fmt: skip
# The types' references state "Update requires: Replacement" for these properties, and their schemas do not.
_NOT_IN_SCHEMAS = {"AWS::EC2::EIP": ("Domain",), "AWS::ECS::Service": ("DeploymentController", "LaunchType")}
# These properties name a resource. AWS refuses to replace a resource while the template gives the same name.
_NAMES = {
    "AWS::ECR::Repository": "RepositoryName",
    "AWS::ElastiCache::ReplicationGroup": "ReplicationGroupId",
    "AWS::ElasticLoadBalancingV2::LoadBalancer": "Name",
    "AWS::ElasticLoadBalancingV2::TargetGroup": "Name",
    "AWS::IAM::InstanceProfile": "InstanceProfileName",
    "AWS::IAM::Role": "RoleName",
    "AWS::IAM::User": "UserName",
    "AWS::RDS::DBInstance": "DBInstanceIdentifier",
    "AWS::RDS::DBParameterGroup": "DBParameterGroupName",
    "AWS::S3::AccessPoint": "Name",
    "AWS::S3::MultiRegionAccessPoint": "Name",
    "AWS::WAFv2::WebACL": "Name",
}
# A change of these conditional properties replaces the resource. An instance without its former DBSnapshotIdentifier
# is replaced by an empty one, and another snapshot by an instance restored from it ("AWS::RDS::DBInstance").
_REPLACING = {
    "AWS::ElastiCache::ReplicationGroup": ("NodeGroupConfiguration", "NumNodeGroups"),
    "AWS::RDS::DBInstance": ("DBSnapshotIdentifier", "Engine"),
}


def replacing_properties(type_name: str) -> set[str]:
    """The properties whose change always replaces a resource of this type."""
    return {*schemas.create_only(type_name), *_NOT_IN_SCHEMAS.get(type_name, ())}


def recreation(type_name: str, name: str) -> str:
    """RequiresRecreation of a changed property: Always, Conditionally or Never."""
    if type_name not in schemas.all_schemas() or name in _CONDITIONAL.get(type_name, ()):
        return "Conditionally"
    return "Always" if name in replacing_properties(type_name) else "Never"


def is_replacement(type_name: str, old: Properties, new: Properties) -> bool:
    """Whether a change "requires: Replacement"."""
    changed = _changed(old, new)
    return bool(changed & {*_REPLACING.get(type_name, ())}) or any(
        recreation(type_name, name) == "Always" for name in changed
    )


def refusal(type_name: str, physical_id: str, old: Properties, new: Properties) -> str | None:
    """AWS's message where an update would replace a resource and keep its name, which AWS refuses; otherwise None."""
    name = old.get(_NAMES.get(type_name, ""))
    if not name or new.get(_NAMES[type_name]) != name:
        return None
    if not is_replacement(type_name, old, new):
        return None
    return (
        f"CloudFormation cannot update a stack when a custom-named resource requires replacing. Rename {physical_id} "
        "and update the stack again."
    )


def _changed(old: Properties, new: Properties) -> set[str]:
    return {name for name in {*old, *new} if old.get(name) != new.get(name)}
