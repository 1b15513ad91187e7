"""Large states have the format of MiniStack's encoder, and immutable parts are encoded once."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from ministack.core import persistence as codec
from ministack.core.responses import AccountRegionScopedDict, AccountScopedDict, request_scope

from alva.region import encoded_state
from alva.region.cloudformation import events, store
from alva.region.encoded_state import Fragments, LargeStates

TEMPLATE = {"Resources": {f"R{number}": {"Type": "AWS::SNS::Topic", "Properties": {"é": "\0"}} for number in range(50)}}


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    store.reset()
    yield
    store.reset()


def add_stack(name: str) -> store.Stack:
    stack: store.Stack = {
        "StackName": name,
        "StackId": f"arn:aws:cloudformation:us-east-1:000000000000:stack/{name}/1",
        "StackStatus": "CREATE_IN_PROGRESS",
        "_template": copy.deepcopy(TEMPLATE),
        "_template_body": json.dumps(TEMPLATE),
        "_resources": {},
    }
    store.add(stack)
    events.add(stack, name, "AWS::CloudFormation::Stack", "CREATE_IN_PROGRESS")
    store.change_sets[f"{name}-set"] = {"StackId": stack["StackId"], "_template": stack["_template"], "Changes": [1]}
    return stack


def expected() -> Any:
    return json.loads(json.dumps(store.get_state(), default=codec._json_default))


def test_states_are_those_of_ministacks_encoder_after_every_kind_of_change() -> None:
    large = LargeStates()

    def check() -> None:
        assert json.loads(large.cloudformation()) == expected()

    check()
    stack = add_stack("one")
    with request_scope("111111111111", "eu-west-1"):
        add_stack("elsewhere")
    check()
    stack["StackStatus"] = "CREATE_COMPLETE"
    stack["_resources"]["R1"] = {"PhysicalResourceId": "x"}
    events.add(stack, "R1", "AWS::SNS::Topic", "CREATE_COMPLETE")
    check()
    stack["_template"] = {"Resources": {}}
    stack["_template_body"] = "{}"
    stack["_resources"]["R1"]["PhysicalResourceId"] = "y"
    check()
    store.forget(stack)
    check()


def test_restored_state_equals_the_saved_state() -> None:
    add_stack("one")
    text, before = LargeStates().cloudformation(), expected()
    store.reset()
    store.load_persisted_state(encoded_state.decode(text))
    assert expected() == before


def test_templates_and_events_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = 0

    def counting(value: Any) -> str:
        nonlocal encoded
        text = json.dumps(value, default=codec._json_default)
        encoded += len(text)
        return text

    monkeypatch.setattr(encoded_state, "encode", counting)
    for number in range(5):
        add_stack(f"s{number}")
    large = LargeStates()
    whole = len(large.cloudformation())
    encoded = 0
    stack = store.stacks["s1"]
    stack["StackStatus"] = "CREATE_COMPLETE"
    assert len(large.cloudformation()) != whole
    assert encoded < whole / 20


def test_texts_of_deleted_records_are_dropped() -> None:
    fragments = Fragments()
    objects = [{"number": number} for number in range(100)]
    for each in objects:
        fragments.text_of(each)
    fragments.end_generation()
    for each in objects[:10]:
        assert fragments.text_of(each) == json.dumps(each, separators=(",", ":"))
    fragments.end_generation()
    assert len(fragments._known) == 10


def test_the_format_is_that_of_ministacks_state_files() -> None:
    regional, scoped = AccountRegionScopedDict(), AccountScopedDict()
    for account, region in (("111111111111", "eu-west-1"), ("222222222222", "us-east-1")):
        with request_scope(account, region):
            regional["a\0b"], regional["pair", 1] = {"é": b"\xff"}, [None, 1.5]
            scoped["name"] = "of the account"
    state = {"regional": regional, "scoped": scoped}
    text = encoded_state.encode(state)
    assert json.loads(text) == json.loads(json.dumps(state, default=codec._json_default))
    decoded = encoded_state.decode(text)
    assert {name: (type(each), each.to_dict()) for name, each in decoded.items()} == {
        "regional": (AccountRegionScopedDict, regional.to_dict()),
        "scoped": (AccountScopedDict, scoped.to_dict()),
    }
