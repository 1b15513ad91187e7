"""AWS::IAM::OIDCProvider: an identity provider, such as GitHub's for Actions, stored in MiniStack's records."""

from __future__ import annotations

from alva.region.cloudformation.handler_failure import call_query
from alva.region.cloudformation.registry import Handlers, Properties, Provisioned, Registry


async def create(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    request = {"Url": properties.get("Url", "")}
    for key, name in (("ClientIdList", "ClientIDList"), ("ThumbprintList", "ThumbprintList")):
        for index, value in enumerate(properties.get(key) or [], 1):
            request[f"{name}.member.{index}"] = value
    answer = await call_query("iam", "CreateOpenIDConnectProvider", request)
    arn = answer.findtext(".//OpenIDConnectProviderArn", "")
    return arn, {"Arn": arn}


async def update(physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:
    # On AWS everything but the URL changes in place. Here the record is written again under the same ARN.
    await delete(physical_id, old)
    return await create("", new, stack_name)


async def delete(physical_id: str, properties: Properties) -> None:  # noqa: ARG001
    await call_query("iam", "DeleteOpenIDConnectProvider", {"OpenIDConnectProviderArn": physical_id})


def register(registry: Registry) -> None:
    registry.register(
        "AWS::IAM::OIDCProvider",
        Handlers(create=create, update=update, delete=delete, replacing_properties=("Url",)),
    )
