"""Rules of listeners.

https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateRule.html
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from alva.region.elb import describing, reading
from alva.region.elb.calls.support import Json, page, read_action, tags_of
from alva.region.elb.records import Rule
from alva.region.elb.refusals import Invalid
from alva.region.elb.store import Store

MOST_RULES = 100
"""AWS's quota of rules of a load balancer, without the default rules.
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-limits.html"""


def create_rule(store: Store, request: Json) -> Json:
    """CreateRule."""
    listener = store.listener(request["ListenerArn"])
    if any(rule.priority == request["Priority"] for rule in listener.rules):
        raise _priority_in_use(request["Priority"])
    balancer = store.load_balancer(listener.load_balancer_arn)
    if sum(rule.priority is not None for each in balancer.listeners for rule in each.rules) >= MOST_RULES:
        raise Invalid(f"A load balancer can have at most {MOST_RULES} rules", "TooManyRules")
    rule = Rule(
        arn=store.new_arn("listener-rule", *listener.arn.split("/")[1:]),
        priority=request["Priority"],
        conditions=reading.conditions(request["Conditions"]),
        action=read_action(store, request["Actions"], balancer.arn, listener.protocol),
        url_rewrite=reading.url_rewrite(request.get("Transforms") or ()),
        tags=tags_of(request),
    )
    store.put_listener(listener.with_rule(rule))
    return {"Rules": [describing.rule(rule)]}


def describe_rules(store: Store, request: Json) -> Json:
    """DescribeRules: by ARNs, or all of a listener."""
    arns, listener = request.get("RuleArns"), request.get("ListenerArn")
    if bool(arns) == bool(listener):
        raise Invalid("You must specify either listener rule ARNs or a listener ARN")
    found = [store.rule(arn)[1] for arn in arns] if arns else list(store.listener(listener or "").rules)
    return page("Rules", found, request, lambda each: each.arn, describing.rule)


def modify_rule(store: Store, request: Json) -> Json:
    """ModifyRule: settings in the request replace the old ones; the others keep their values."""
    listener, rule = store.rule(request["RuleArn"])
    if rule.priority is None:
        raise Invalid("Default rules cannot be modified", "OperationNotPermitted")
    if request.get("ResetTransforms") and request.get("Transforms"):
        raise Invalid("You cannot specify Transforms and ResetTransforms in the same request")
    if request.get("Conditions"):
        rule = replace(rule, conditions=reading.conditions(request["Conditions"]))
    if request.get("Actions"):
        action = read_action(store, request["Actions"], listener.load_balancer_arn, listener.protocol)
        rule = replace(rule, action=action)
    if request.get("ResetTransforms") or request.get("Transforms"):
        rule = replace(rule, url_rewrite=reading.url_rewrite(request.get("Transforms") or ()))
    store.put_listener(listener.with_rule(rule))
    return {"Rules": [describing.rule(rule)]}


def delete_rule(store: Store, request: Json) -> Json:
    """DeleteRule. A default rule is deleted only with its listener."""
    listener, rule = store.rule(request["RuleArn"])
    if rule.priority is None:
        raise Invalid("Default rules cannot be deleted", "OperationNotPermitted")
    store.put_listener(listener.with_rules(*(each for each in listener.rules if each.arn != rule.arn)))
    return {}


def set_rule_priorities(store: Store, request: Json) -> Json:
    """SetRulePriorities: all of them or none."""
    changes = {item.get("RuleArn") or "": item.get("Priority") for item in request["RulePriorities"]}
    changed = []
    listeners = {}
    for arn, priority in changes.items():
        listener, rule = store.rule(arn)
        if rule.priority is None:
            raise Invalid("You cannot set the priority of a default rule", "OperationNotPermitted")
        if priority is None:
            raise Invalid("A priority must be specified")
        listeners[listener.arn] = listener
        changed.append(replace(rule, priority=priority))
    by_arn = {rule.arn: rule for rule in changed}
    results = [each.with_rules(*(by_arn.get(rule.arn, rule) for rule in each.rules)) for each in listeners.values()]
    for listener in results:
        for priority, times in Counter(rule.priority for rule in listener.rules).items():
            if times > 1:
                raise _priority_in_use(priority)
    for listener in results:
        store.put_listener(listener)
    return {"Rules": [describing.rule(rule) for rule in changed]}


def _priority_in_use(priority: int | None) -> Invalid:
    return Invalid(f"Priority '{priority}' is currently in use", "PriorityInUse")
