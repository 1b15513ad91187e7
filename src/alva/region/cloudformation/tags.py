"""Tags of resources: a tag that is set outside the stack remains, unless the template sets or drops its key."""

from __future__ import annotations

from alva.region.cloudformation.handler_failure import call
from alva.region.cloudformation.registry import Properties

Tag = dict[str, str]


def changes(old: Properties, new: Properties) -> tuple[list[str], list[Tag]]:
    """The keys that an update removes, and the tags that it sets."""
    before, after = ({tag["Key"]: str(tag.get("Value", "")) for tag in each.get("Tags") or ()} for each in (old, new))
    changed = [{"Key": key, "Value": value} for key, value in after.items() if before.get(key) != value]
    return [key for key in before if key not in after], changed


def ec2_specifications(resource_type: str, properties: Properties) -> list[Properties]:
    """The `TagSpecifications` for the creation of an EC2 resource."""
    return [{"ResourceType": resource_type, "Tags": properties["Tags"]}] if properties.get("Tags") else []


async def update_ec2(resource_id: str, old: Properties, new: Properties) -> None:
    """Update the tags of an EC2 resource."""
    removed, changed = changes(old, new)
    if removed:
        await call("ec2", "DeleteTags", {"Resources": [resource_id], "Tags": [{"Key": key} for key in removed]})
    if changed:
        await call("ec2", "CreateTags", {"Resources": [resource_id], "Tags": changed})
