"""MiniStack's CloudFormation, made parallel and strict, and the resource types that it lacks or gets wrong.

`registry.register` is how every part of the region adds a resource type or replaces MiniStack's.
"""
