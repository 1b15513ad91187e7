"""The actions of the ECS API, by what they are about. Each is a function of the service and the request."""
