"""Fixtures of the integration tests: a real server process, and stubs made from the proto files.

The stubs are generated here, as any user of the service would, with grpcio-tools.
"""

import importlib
import os
import pathlib
import sys

import grpc
import pytest

from server_process import ServerProcess

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def stub_dir(tmp_path_factory):
    """A folder on sys.path that holds the generated stubs of kvattend.v1."""
    import grpc_tools
    from grpc_tools import protoc

    well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    out = tmp_path_factory.mktemp("stubs")
    protos = sorted(str(p) for p in (ROOT / "proto/kvattend/v1").glob("*.proto"))
    code = protoc.main(
        ["protoc", f"-I{ROOT / 'proto'}", f"-I{well_known}", f"--python_out={out}",
         f"--grpc_python_out={out}", *protos])
    assert code == 0
    sys.path.insert(0, str(out))
    return out


@pytest.fixture(scope="session")
def pb(stub_dir):
    """The generated modules: pb.types, pb.session, pb.attention, pb.codec, pb.server (and _grpc)."""
    import google.rpc.error_details_pb2  # noqa: F401  registers the details' types
    import google.rpc.status_pb2  # noqa: F401

    class Modules:
        pass

    modules = Modules()
    modules.types = importlib.import_module("kvattend.v1.types_pb2")
    for name in ("session", "attention", "codec", "server"):
        setattr(modules, name, importlib.import_module(f"kvattend.v1.{name}_service_pb2"))
        setattr(modules, name + "_grpc", importlib.import_module(f"kvattend.v1.{name}_service_pb2_grpc"))
    return modules


@pytest.fixture(scope="session")
def server_binary():
    path = pathlib.Path(os.environ.get("KVATTEND_SERVER_BINARY", ROOT / "build/release/server/kvattend-server"))
    assert path.exists(), f"{path} is not built"
    return path


@pytest.fixture(scope="session")
def cli_binary():
    path = pathlib.Path(os.environ.get("KVATTEND_CLI_BINARY", ROOT / "build/release/client/cli/kvattend"))
    assert path.exists(), f"{path} is not built"
    return path


@pytest.fixture
def start_server(server_binary, tmp_path):
    """A function that starts servers with extra flags; all of them are stopped at the end."""
    servers = []

    def start(*flags, env=None):
        server = ServerProcess(server_binary, tmp_path / f"server{len(servers)}", flags, env)
        servers.append(server)
        server.wait_until_ready()
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="module")
def server(server_binary, tmp_path_factory):
    """One server for a module's tests, with an arena of 256 MiB."""
    process = ServerProcess(server_binary, tmp_path_factory.mktemp("server"), ("--kv_memory=256MiB",), None)
    process.wait_until_ready()
    yield process
    code = process.stop()
    assert code == 0, f"the server exited with {code}:\n{process.log_tail()}"


@pytest.fixture(scope="module")
def client(server, pb):
    from api import Api

    with grpc.insecure_channel(server.target, options=[("grpc.max_receive_message_length", -1),
                                                       ("grpc.max_send_message_length", -1)]) as channel:
        yield Api(channel, pb)
