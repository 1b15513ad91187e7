#!/bin/sh
# The container's entry point. Docker publishes ports of the container's address, and the local region listens on
# 127.0.0.1.
set -eu
address=$(hostname -i | cut -d' ' -f1)
for port in 8080 8443 8025 4566; do
    socat "TCP-LISTEN:$port,bind=$address,fork,reuseaddr" "TCP:127.0.0.1:$port" &
done
exec "$@"
