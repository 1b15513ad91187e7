"""AWS::IAM::OIDCProvider: an identity provider, such as GitHub's for Actions, stored in MiniStack's records."""

from __future__ import annotations

from alva.region.cloudformation.handler_failure import call
from alva.region.cloudformation.registry import Handlers, Properties, Provisioned, Registry


async def create(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    request = {
        "Url": properties.get("Url", ""),
        "ClientIDList": properties.get("ClientIdList") or [],
        "ThumbprintList": properties.get("ThumbprintList") or [],
    }
    arn = (await call("iam", "CreateOpenIDConnectProvider", request))["OpenIDConnectProviderArn"]
    return arn, {"Arn": arn}


async def update(physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:
    # On AWS everything but the URL changes in place. Here the record is written again under the same ARN.
    await delete(physical_id, old)
    return await create("", new, stack_name)


async def delete(physical_id: str, properties: Properties) -> None:  # noqa: ARG001
    await call("iam", "DeleteOpenIDConnectProvider", {"OpenIDConnectProviderArn": physical_id})


def register(registry: Registry) -> None:
    registry.register("AWS::IAM::OIDCProvider", Handlers(create=create, update=update, delete=delete))
