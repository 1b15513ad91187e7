"""The calls of the elbv2 API: one function each, which checks everything before it changes the store."""
