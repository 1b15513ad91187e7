"""The actions of the elbv2 API: one function each, which checks the whole request before it changes the store."""
