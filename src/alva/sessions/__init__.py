"""Session Manager's data channel: what a shell in a task speaks, on AWS and in the local region.

`messages.py` is the binary form, `streams.py` the numbering and acknowledging, `commands.py` what is run so that its
exit code comes back, `channel.py` the client, `attachment.py` and `terminal.py` the side of the person who asked. AWS
documents none of it; the sources of its own agent and plugin do (aws/amazon-ssm-agent, agent/session;
aws/session-manager-plugin).
"""
