"""A kvattend-server of one's own: started on free ports, watched, stopped with SIGTERM."""

import os
import signal
import subprocess
import time
import urllib.request


class ServerProcess:
    def __init__(self, binary, directory, flags=(), env=None):
        directory.mkdir(parents=True, exist_ok=True)
        self.log_path = directory / "server.log"
        self.port_file = directory / "ports"
        self._log = open(self.log_path, "wb")
        self.process = subprocess.Popen(
            [str(binary), "--listen=127.0.0.1:0", "--metrics_listen=127.0.0.1:0",
             f"--port_file={self.port_file}", *flags],
            stdout=self._log, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})})
        self.ports = {}

    def wait_until_ready(self, timeout_seconds=60):
        """The port file appears, whole, once the server answers."""
        deadline = time.monotonic() + timeout_seconds
        while not self.port_file.exists():
            if self.process.poll() is not None:
                raise RuntimeError(f"the server exited with {self.process.returncode}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"the server is not ready:\n{self.log_tail()}")
            time.sleep(0.01)
        self.ports = dict(line.split("=") for line in self.port_file.read_text().split())

    @property
    def target(self):
        return f"127.0.0.1:{self.ports['grpc']}"

    @property
    def metrics_target(self):
        return f"127.0.0.1:{self.ports['metrics']}"

    def metrics_text(self):
        with urllib.request.urlopen(f"http://{self.metrics_target}/metrics", timeout=10) as answer:
            return answer.read().decode()

    def metric(self, name, **labels):
        """The sum of the series of `name` that have `labels`."""
        total, found = 0.0, False
        for line in self.metrics_text().splitlines():
            if line.startswith(name + "{") or line.startswith(name + " "):
                if all(f'{key}="{value}"' in line for key, value in labels.items()):
                    total += float(line.rsplit(" ", 1)[1])
                    found = True
        assert found, f"no series {name} {labels}"
        return total

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def stop(self, timeout_seconds=60):
        """SIGTERM, then the exit code; idempotent."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._log.close()
        return self.process.returncode

    def log_tail(self, size=4000):
        return self.log_path.read_text(errors="replace")[-size:]
