"""Large states have the format of MiniStack's encoder, and immutable parts are encoded once."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from ministack.core import persistence as codec
from ministack.core.responses import AccountRegionScopedDict, AccountScopedDict, request_scope

from alva.region import encoded_state
from alva.region.cloudformation import events
from alva.region.cloudformation.store import Stack, StackRecords
from alva.region.encoded_state import Fragments, LargeStates

TEMPLATE = {"Resources": {f"R{number}": {"Type": "AWS::SNS::Topic", "Properties": {"é": "\0"}} for number in range(50)}}


def add_stack(records: StackRecords, name: str) -> Stack:
    stack: Stack = {
        "StackName": name,
        "StackId": f"arn:aws:cloudformation:us-east-1:000000000000:stack/{name}/1",
        "StackStatus": "CREATE_IN_PROGRESS",
        "_template": copy.deepcopy(TEMPLATE),
        "_template_body": json.dumps(TEMPLATE),
        "_resources": {},
    }
    records.add(stack)
    events.add(records, stack, name, "AWS::CloudFormation::Stack", "CREATE_IN_PROGRESS")
    records.change_sets[f"{name}-set"] = {"StackId": stack["StackId"], "_template": stack["_template"], "Changes": [1]}
    return stack


def expected(records: StackRecords) -> Any:
    return json.loads(json.dumps(records.get_state(), default=codec._json_default))


def test_states_are_those_of_ministacks_encoder_after_every_kind_of_change() -> None:
    records, large = StackRecords(), LargeStates()

    def check() -> None:
        assert json.loads(large.cloudformation(records.get_state())) == expected(records)

    check()
    stack = add_stack(records, "one")
    with request_scope("111111111111", "eu-west-1"):
        add_stack(records, "elsewhere")
    check()
    stack["StackStatus"] = "CREATE_COMPLETE"
    stack["_resources"]["R1"] = {"PhysicalResourceId": "x"}
    events.add(records, stack, "R1", "AWS::SNS::Topic", "CREATE_COMPLETE")
    check()
    stack["_template"] = {"Resources": {}}
    stack["_template_body"] = "{}"
    stack["_resources"]["R1"]["PhysicalResourceId"] = "y"
    check()
    records.forget(stack)
    check()


def test_restored_state_equals_the_saved_state() -> None:
    records = StackRecords()
    add_stack(records, "one")
    text, before = LargeStates().cloudformation(records.get_state()), expected(records)
    records = StackRecords()
    records.load_persisted_state(encoded_state.decode(text))
    assert expected(records) == before


def test_templates_and_events_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = 0

    def counting(value: Any) -> str:
        nonlocal encoded
        text = json.dumps(value, default=codec._json_default)
        encoded += len(text)
        return text

    monkeypatch.setattr(encoded_state, "encode", counting)
    records = StackRecords()
    for number in range(5):
        add_stack(records, f"s{number}")
    large = LargeStates()
    whole = len(large.cloudformation(records.get_state()))
    encoded = 0
    stack = records.stacks["s1"]
    stack["StackStatus"] = "CREATE_COMPLETE"
    assert len(large.cloudformation(records.get_state())) != whole
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
