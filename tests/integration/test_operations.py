"""Flags, environment, signals, logs, metrics: what those see who run the server."""

import json
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
import urllib.request

import grpc
import numpy as np
import pytest
from api import Api
from test_attention import tokens


def fails_to_start(server_binary, *flags, env=None):
    import os
    run = subprocess.run([str(server_binary), "--metrics_listen=127.0.0.1:0", *flags], capture_output=True, text=True,
                         timeout=60, env={**os.environ, **(env or {})})
    return run.returncode, run.stdout + run.stderr


@pytest.mark.parametrize("flags,mentions", [
    (["--kv_memory=lots"], "kv_memory"), (["--device=tpu"], "device"), (["--listen=nonsense"], "listen"),
    (["--log_level=shouting"], "log_level"), (["--no_such_flag=1"], "no_such_flag"),
    (["--listen=0.0.0.0:0"], "insecure"), (["--max_queue_depth=0"], "max_queue_depth"),
])
def test_bad_flags_are_refused_with_their_name(server_binary, flags, mentions):
    code, text = fails_to_start(server_binary, *flags)
    assert code not in (0, None) and code > 0 and mentions in text


def test_environment_and_flags(start_server, server_binary, pb):
    server = start_server(env={"KVATTEND_KV_MEMORY": "16MiB"})
    with grpc.insecure_channel(server.target) as channel:
        assert Api(channel, pb).server.GetServerInfo(pb.server.GetServerInfoRequest()).kv_capacity_bytes == 16 << 20
    server = start_server("--kv_memory=32MiB", env={"KVATTEND_KV_MEMORY": "16MiB"})
    with grpc.insecure_channel(server.target) as channel:
        assert Api(channel, pb).server.GetServerInfo(pb.server.GetServerInfoRequest()).kv_capacity_bytes == 32 << 20
    code, text = fails_to_start(server_binary, env={"KVATTEND_KV_MEMORY": "lots"})
    assert code > 0 and "kv_memory" in text.lower()


def test_a_taken_port(server_binary):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, text = fails_to_start(server_binary, f"--listen=127.0.0.1:{taken.getsockname()[1]}")
    assert code > 0 and "listen" in text.lower()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_clean_shutdown_with_calls_in_flight(start_server, pb, number):
    server = start_server("--kv_memory=64MiB")
    with grpc.insecure_channel(server.target) as channel:
        client = Api(channel, pb)
        session = client.create(query_heads=8, kv_heads=8, head_dim=128)
        client.append(session, 0, *tokens(np.random.default_rng(0), 2048, 8, 128))
        queries = np.ones((64, 8, 128), np.float32)
        request = client.pb.attention.AttendRequest(dtype=3, items=[client.attend_item(session, queries)],
                                                    queries=queries.tobytes())
        futures = [client.attention.Attend.future(request) for _ in range(20)]
        futures[0].result(timeout=60)
        server.process.send_signal(number)
        codes = {future.code() for future in futures}
        assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        assert server.process.wait(60) == 0


def test_json_logs_carry_the_request_id(start_server, pb):
    server = start_server("--log_format=json", "--log_level=debug")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with grpc.insecure_channel(server.target) as channel:
        request = pb.session.GetSessionRequest(name="sessions/nobody")
        with pytest.raises(grpc.RpcError):
            Api(channel, pb).sessions.GetSession(
                request, metadata=[("x-request-id", "my-request-7"), ("traceparent", trace)])
    server.stop()
    lines = [json.loads(line) for line in server.log_path.read_text().splitlines()]
    mine = [line for line in lines if "my-request-7" in json.dumps(line)]
    assert mine and any(trace in json.dumps(line) for line in mine)


def test_version(server_binary, cli_binary):
    for binary in (server_binary, cli_binary):
        run = subprocess.run([str(binary), "--version"], capture_output=True, text=True, timeout=60)
        assert run.returncode == 0 and "0.1.0" in run.stdout


def test_metrics_are_clean_and_complete(client, server):
    text = server.metrics_text()
    promtool = shutil.which("promtool")
    if promtool:
        run = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
        assert run.returncode == 0 and not run.stderr.strip() and not run.stdout.strip(), run.stdout + run.stderr
    for name in ("kvattend_sessions", "kvattend_sessions_closed_total", "kvattend_tokens_appended_total",
                 "kvattend_kv_bytes", "kvattend_kv_dense_bytes", "kvattend_kv_capacity_bytes",
                 "kvattend_compress_input_bytes_total", "kvattend_compress_output_bytes_total",
                 "kvattend_queue_depth", "kvattend_queue_wait_seconds", "kvattend_kernel_seconds",
                 "kvattend_batch_size", "kvattend_rejections_total", "kvattend_append_replays_total",
                 "kvattend_build_info", "kvattend_ready", "grpc_server_call_started_total",
                 "grpc_server_call_duration_seconds", "process_resident_memory_bytes", "process_open_fds",
                 "process_cpu_seconds_total"):
        assert f"# TYPE {name} " in text, name
    for codec in ("balanced", "int2", "custom"):
        assert f'kvattend_compress_input_bytes_total{{codec="{codec}"}}' in text
    assert 'le="1e-05"' in text or 'le="0.00001"' in text


def test_a_real_prometheus_sees_memory_saved_and_latency(client, server, tmp_path):
    prometheus = shutil.which("prometheus")
    if not prometheus:
        pytest.skip("prometheus is not installed")
    session = client.create("observed", query_heads=8, kv_heads=8, head_dim=128, recent_window=0)
    client.append(session, 0, *tokens(np.random.default_rng(0), 1024, 8, 128))
    for _ in range(5):
        client.attend(session, np.ones((1, 8, 128), np.float32))
    config = tmp_path / "prometheus.yml"
    config.write_text("global: {scrape_interval: 200ms, scrape_timeout: 200ms}\nscrape_configs:\n"
                      "- job_name: kvattend\n  static_configs:\n"
                      f"  - targets: ['{server.metrics_target}']\n")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([prometheus, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'data'}",
                                f"--web.listen-address=127.0.0.1:{port}"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        def query(expression):
            url = f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(expression)}"
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    result = json.load(answer)["data"]["result"]
            except OSError:
                return None
            return float(result[0]["value"][1]) if result else None

        deadline = time.monotonic() + 60
        saved = None
        while saved is None and time.monotonic() < deadline:
            saved = query("1 - sum(kvattend_kv_bytes) / sum(kvattend_kv_dense_bytes)")
            time.sleep(0.1)
        assert saved is not None and 0.8 < saved < 0.9, saved
        assert query('sum(kvattend_kernel_seconds_count{op="attend"})') >= 5
        p99 = query('histogram_quantile(0.99, sum by (le) (grpc_server_call_duration_seconds_bucket'
                    '{grpc_method=~".*Attend"}))')
        assert p99 is not None and 0 < p99 < 60
    finally:
        process.terminate()
        process.wait(30)
        client.delete(session.name)
