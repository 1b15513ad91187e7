"""A generated physical name has CloudFormation's form."""

from __future__ import annotations

import re

from alva.region.cloudformation.physical_names import physical_name


def test_a_name_has_the_stack_the_logical_id_and_12_random_characters() -> None:
    names = {physical_name("shop", "Table") for _ in range(100)}
    assert len(names) == 100
    assert all(re.fullmatch(r"shop-Table-[A-Z0-9]{12}", name) for name in names)


def test_a_name_is_cut_before_the_random_characters() -> None:
    name = physical_name("a-long-stack-name", "Database", lowercase=True, max_length=20)
    assert re.fullmatch(r"a-long-[a-z0-9]{12}", name)  # one hyphen: RDS refuses two
