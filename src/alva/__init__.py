"""Alva: the staging environment on AWS ECS, and its rehearsal on one machine."""
