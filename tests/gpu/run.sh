#!/usr/bin/env bash
# Runs the GPU tests of a bundle (see bundle.sh) on this machine, then the server with replayed input
# against it, and ends with a summary. Logs go to the folder `logs` beside this file, or to $1.
#
# With SANITIZE=memcheck (racecheck, initcheck, synccheck) the tests run under compute-sanitizer; but
# not those of a device fault, nor the server.
set -uo pipefail
bundle=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:-$bundle/logs}"
logs=$(cd "${1:-$bundle/logs}" && pwd)
export LD_LIBRARY_PATH=$bundle/lib
if [[ -z $(nvidia-smi -L 2>/dev/null) ]]; then
  echo "no GPU here: nothing was run"
  exit 0
fi
nvidia-smi -L | head -1

status=0
report() { # name, exit status, what to say of it
  printf '%-24s %-6s %s\n' "$1" "$([[ $2 -eq 0 ]] && echo ok || echo FAILED)" "$3"
  [[ $2 -eq 0 ]] || status=1
}

tests=(gpu_compress_test gpu_attend_test cuda_conformance_test)
sanitizer=()
if [[ -n ${SANITIZE:-} ]]; then
  sanitizer=(compute-sanitizer --tool "$SANITIZE" --error-exitcode 9)
else
  tests+=(gpu_fault_test)
fi
for test in "${tests[@]}"; do
  "${sanitizer[@]}" "$bundle/$test" >"$logs/$test.log" 2>&1
  report "$test" $? "$(grep -hE '^\[  (PASSED|FAILED)  \] [0-9]+ test|SUMMARY' "$logs/$test.log" | tr '\n' ' ')"
done
[[ -z ${SANITIZE:-} ]] || exit "$status"

ports=$logs/ports
rm -f "$ports"
"$bundle/kvattend-server" --device=cuda --kv_memory=2GiB --listen=127.0.0.1:0 \
  --metrics_listen=127.0.0.1:0 --port_file="$ports" >"$logs/server.log" 2>&1 </dev/null &
server=$!
for ((tries = 0; tries < 300; ++tries)); do
  [[ ! -s $ports ]] && kill -0 "$server" 2>/dev/null || break
  sleep 0.1
done
if [[ -s $ports ]]; then
  source "$ports"
  (cd "$bundle" && ./kvattend replay --server="127.0.0.1:$grpc") >"$logs/replay.log" 2>&1
  report "kvattend replay" $? "$(tail -1 "$logs/replay.log")"
  "$bundle/kvattend" metrics --metrics="127.0.0.1:$metrics" >"$logs/metrics.log" 2>&1
  report "kvattend metrics" $? ""
fi
kill -TERM "$server" 2>/dev/null
wait "$server"
report "kvattend-server" $? "$(tail -1 "$logs/server.log")"
exit "$status"
