"""CloudFormation: the API, the stacks' operations, and the resource types that MiniStack lacks or gets wrong.

`Registry.register` is how every part of the region adds a resource type or replaces MiniStack's.
"""
