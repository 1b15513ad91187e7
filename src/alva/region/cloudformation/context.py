"""A stack with its template and exports, and during an operation with what the operation needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from alva.region.cloudformation import events, intrinsics, schemas, template
from alva.region.cloudformation.intrinsics import NO_VALUE, Json, Scope, TemplateError, text
from alva.region.cloudformation.provisioning import Provisioner
from alva.region.cloudformation.store import Stack, StackRecords, now

Operation = dict[str, Any]
Step = dict[str, Any]

STACK_TYPE = "AWS::CloudFormation::Stack"
RETAINING_POLICIES = ("Retain", "RetainExceptOnCreate")
# Types with tags that the region does not record.
_WITHOUT_STACK_TAGS = frozenset({
    "AWS::ApplicationAutoScaling::ScalableTarget", "AWS::CloudWatch::Dashboard", "AWS::ECS::TaskDefinition",
    "AWS::ElastiCache::ParameterGroup", "AWS::ElastiCache::ReplicationGroup", "AWS::ElastiCache::SubnetGroup",
    "AWS::Events::Rule", "AWS::IAM::OIDCProvider", "AWS::S3::AccessPoint", "AWS::S3::Bucket", "AWS::WAFv2::WebACL",
})  # fmt: skip
_NO_STRING = "Template format error: The Value field of every Outputs member must evaluate to a String."


def scope_of(records: StackRecords, stack: Stack, source: Json, parameters: Mapping[str, Json]) -> Scope:
    """The names of a template for a stack, with its conditions evaluated. Raises TemplateError."""
    _, _, _, region, account_id, _ = stack["StackId"].split(":", 5)
    scope = Scope(
        stack_name=stack["StackName"],
        stack_id=stack["StackId"],
        region=region,
        account_id=account_id,
        parameters=parameters,
        mappings=source.get("Mappings") or {},
    )
    return replace(scope, conditions=intrinsics.conditions_of(source, scope), export=partial(export_value, records))


def export_value(records: StackRecords, name: str) -> str:
    """The value of an export. Raises TemplateError where there is none."""
    found = records.exports.get(name)
    if found is None:
        raise TemplateError(f"No export named {name} found. Rollback requested by user.")
    return str(found["Value"])


class Context:
    """A stack with one of its templates. Resolves the template's values."""

    def __init__(self, records: StackRecords, stack: Stack, source: Json, parameters: Mapping[str, Json]) -> None:
        self.records = records
        self.stack = stack
        self.name: str = stack["StackName"]
        self.id: str = stack["StackId"]
        self.template = source
        self.parameters = parameters
        self.scope = scope_of(records, stack, source, parameters)
        self.definitions: dict[str, Json] = template.active(source.get("Resources") or {}, self.scope.conditions)

    @classmethod
    def of(cls, records: StackRecords, stack: Stack) -> Context:
        """A stack with its present template."""
        return cls(records, stack, stack.get("_template") or {}, stack.get("_resolved_params") or {})

    def before(self, previous: Stack) -> Context:
        """The stack with its template before an update, of which `previous` is the description."""
        source, parameters = previous.get("_template") or {}, previous.get("_resolved_params") or {}
        return Context(self.records, self.stack, source, parameters)

    def dependencies(self, names: Iterable[str] | None = None) -> dict[str, set[str]]:
        """The dependencies of each resource, among `names`."""
        wanted = set(self.definitions if names is None else names)
        return {
            name: template.dependencies_of(self.definitions.get(name, {})) & wanted - {name} for name in wanted
        }  # fmt: skip

    def resolve(self, value: Any, resources: Mapping[str, Json]) -> Any:
        """A value of the template, with the records of these resources. Raises TemplateError."""
        return replace(self.scope, resources=resources).resolve(value)

    def policy(self, logical_id: str, attribute: str, resources: Mapping[str, Any]) -> str:
        """DeletionPolicy or UpdateReplacePolicy of a resource, `Delete` by default.

        A database's default is `Snapshot`:
        https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-attribute-deletionpolicy.html
        """
        definition = (self.template.get("Resources") or {}).get(logical_id) or {}
        if attribute not in definition:
            is_database = definition.get("Type") == "AWS::RDS::DBInstance" and attribute == "DeletionPolicy"
            belongs_to_cluster = bool((definition.get("Properties") or {}).get("DBClusterIdentifier"))
            return "Snapshot" if is_database and not belongs_to_cluster else "Delete"
        return text(self.resolve(definition[attribute], resources))

    def outputs(self, resources: Mapping[str, Json]) -> tuple[list[Json], dict[str, Json]]:
        """The stack's outputs and exports. Raises TemplateError where one has no value."""
        outputs, exports = [], {}
        for key, definition in template.active(self.template.get("Outputs") or {}, self.scope.conditions).items():
            value = self.resolve(definition["Value"], resources)
            if isinstance(value, bool | list | dict) or value is NO_VALUE:
                raise TemplateError(_NO_STRING)
            output = {"OutputKey": key, "OutputValue": text(value), "Description": definition.get("Description", "")}
            if export := definition.get("Export"):
                name = text(self.resolve(export["Name"], resources))
                output["ExportName"] = name
                exports[name] = {"StackId": self.id, "Name": name, "Value": text(value)}
            outputs.append(output)
        return outputs, exports

    def with_tags(self, resource_type: str, logical_id: str, properties: Json, tags: Any) -> Json:
        """The properties with the stack's tags and CloudFormation's own tags added; a tag of the template wins."""
        schema = schemas.all_schemas().get(resource_type, {"properties": {}})
        if "Tags" not in schema["properties"] or resource_type in _WITHOUT_STACK_TAGS:
            return properties
        added = {tag["Key"]: tag["Value"] for tag in tags} | {
            "aws:cloudformation:stack-name": self.name,
            "aws:cloudformation:stack-id": self.id,
            "aws:cloudformation:logical-id": logical_id,
        }
        own = properties.get("Tags") or []
        if isinstance(own, dict) or resource_type == "AWS::SSM::Parameter":
            return {**properties, "Tags": {**added, **dict(own)}}
        missing = added.keys() - {tag["Key"] for tag in own}
        return {**properties, "Tags": own + [{"Key": key, "Value": added[key]} for key in added if key in missing]}


class OperationContext(Context):
    """A stack during an operation, which provisions resources and records events. Its template is the present one, or
    the one that is deployed.
    """

    def __init__(
        self,
        records: StackRecords,
        provisioner: Provisioner,
        stack: Stack,
        source: Json | None = None,
        parameters: Mapping[str, Json] | None = None,
    ) -> None:
        source = stack.get("_template") or {} if source is None else source
        parameters = stack.get("_resolved_params") or {} if parameters is None else parameters
        super().__init__(records, stack, source, parameters)
        self.provisioner = provisioner

    def event(self, logical_id: str, resource_type: str, status: str, reason: str = "", physical_id: str = "") -> None:
        """Record an event of a resource."""
        events.add(self.records, self.stack, logical_id, resource_type, status, reason, physical_id)
        self.provisioner.changed()

    def stack_event(self, status: str, reason: str = "") -> None:
        """Set the stack's status and record its event."""
        self.stack["StackStatus"] = status
        self.stack["StackStatusReason"] = reason
        if status == "DELETE_COMPLETE":
            self.stack["DeletionTime"] = now()
        self.event(self.name, STACK_TYPE, status, reason, self.id)


def imported_exports(records: StackRecords, stack: Stack) -> set[str]:
    """The names of the exports that a stack's template imports."""
    context = Context.of(records, stack)
    found: set[str] = set()

    def walk(node: Any) -> None:
        if isinstance(node, list):
            for item in node:
                walk(item)
        elif isinstance(node, dict):
            if "Fn::ImportValue" in node:
                found.add(text(context.resolve(node["Fn::ImportValue"], stack.get("_resources") or {})))
            for item in node.values():
                walk(item)

    walk([context.definitions, context.template.get("Outputs") or {}])
    return found


def importing_stacks(records: StackRecords, export_name: str, exporting_stack: str = "") -> list[str]:
    """The names of the other stacks that import an export."""
    return sorted(
        stack["StackName"]
        for stack in records.all_stacks()
        if stack["StackName"] != exporting_stack
        and stack["StackStatus"] not in ("DELETE_COMPLETE", "REVIEW_IN_PROGRESS")
        and export_name in imported_exports(records, stack)
    )


def exports_of(stack: Stack) -> dict[str, Any]:
    """The exports that a stack's outputs name."""
    return {
        output["ExportName"]: {
            "StackId": stack["StackId"],
            "Name": output["ExportName"],
            "Value": output["OutputValue"],
        }
        for output in stack.get("Outputs") or []
        if output.get("ExportName")
    }
