#!/usr/bin/env bash
# Starts a server on free ports, replays the reference input against it, shows what its metrics
# then say, and stops it. The server's log is build/demo/server.log. Exits as `kvattend replay` does,
# or with 1 where the server does not start or stop as it should.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install_dependencies.sh build
scripts/build.sh release kvattend-server kvattend

server=build/release/server/kvattend-server
cli=build/release/client/cli/kvattend
log=build/demo/server.log
ports=build/demo/ports
mkdir -p build/demo
rm -f "$ports"

"$server" --listen=127.0.0.1:0 --metrics_listen=127.0.0.1:0 --port_file="$ports" \
  >"$log" 2>&1 </dev/null &
server_pid=$!
# Whatever happens below, no server stays behind.
trap 'kill -KILL "$server_pid" 2>/dev/null || true' EXIT

# The file appears once the server is ready: at most 30 seconds.
for ((tries = 0; tries < 300; ++tries)); do
  [[ ! -s $ports ]] || break
  kill -0 "$server_pid" 2>/dev/null || break
  sleep 0.1
done
if [[ ! -s $ports ]]; then
  cat "$log" >&2
  echo "the server did not start; its log is above" >&2
  exit 1
fi
# grpc=PORT and metrics=PORT.
source "$ports"

echo
status=0
# With its sessions left, the metrics show what they save.
"$cli" replay --server="127.0.0.1:$grpc" --keep-sessions || status=$?
echo
"$cli" metrics --metrics="127.0.0.1:$metrics"

kill -TERM "$server_pid"
if ! timeout 30 tail --pid="$server_pid" -f /dev/null; then
  echo "the server did not stop within 30 seconds; its log is $log" >&2
  exit 1
fi
trap - EXIT
server_status=0
wait "$server_pid" || server_status=$?
if [[ $server_status -ne 0 ]]; then
  echo "the server exited with $server_status; its log is $log" >&2
  exit 1
fi
exit "$status"
