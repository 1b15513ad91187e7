"""The region's CloudFormation: API, templates, change sets, stack operations and resource types.

MiniStack makes the remaining types. Every part of the region adds a resource type, or replaces MiniStack's, with
`Registry.register`.
"""
