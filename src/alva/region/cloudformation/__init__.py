"""The region's CloudFormation: API, templates, change sets, stack operations and resource types.

MiniStack keeps the records and makes the remaining types. Every part of the region adds a resource type, or replaces
MiniStack's, with `Registry.register`.
"""
