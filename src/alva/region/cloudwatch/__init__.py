"""CloudWatch: metrics, their statistics, and alarms that are evaluated continuously.

Metrics are the region's own records. MiniStack has the alarms' records, their history, composite alarms and dashboards.
"""
