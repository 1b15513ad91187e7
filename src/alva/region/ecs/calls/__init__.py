"""The actions of the ECS API, one module for each kind of resource. Each action is a function."""
