"""Session Manager's data channel: the protocol of a shell in a task, on AWS and in the local region.

`messages.py` has the binary format, `streams.py` numbering and acknowledgements, `commands.py` the command that reports
its exit code, `channel.py` the client, `attachment.py` and `terminal.py` the user's side. AWS does not document the
protocol; the sources of its agent and plugin do (aws/amazon-ssm-agent, agent/session; aws/session-manager-plugin).
"""
