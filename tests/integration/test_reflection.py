"""Any gRPC client can find out the whole API from the server itself."""

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVICES = ["kvattend.v1.SessionService", "kvattend.v1.AttentionService", "kvattend.v1.CodecService",
            "kvattend.v1.ServerService"]


def test_the_shape_of_every_message_is_read_from_reflection(server, pb):
    with grpc.insecure_channel(server.target) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert set(SERVICES) <= set(database.get_services())
        pool = descriptor_pool.DescriptorPool(database)
        for service_name in SERVICES:
            service = pool.FindServiceByName(service_name)
            assert service.methods
            for method in service.methods:
                for message in (method.input_type, method.output_type):
                    reflected, generated = (descriptor_pb2.DescriptorProto() for _ in range(2))
                    message.CopyToProto(reflected)
                    modules = (pb.session, pb.attention, pb.codec, pb.server)
                    module = next(m for m in modules if hasattr(m, message.name))
                    getattr(module, message.name).DESCRIPTOR.CopyToProto(generated)
                    assert reflected == generated and reflected.name


def test_health_of_each_service_and_watch(start_server):
    server = start_server()
    with grpc.insecure_channel(server.target) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        serving = health_pb2.HealthCheckResponse.SERVING
        for service in ["", *SERVICES]:
            assert health.Check(health_pb2.HealthCheckRequest(service=service)).status == serving
        try:
            health.Check(health_pb2.HealthCheckRequest(service="nobody"))
            raise AssertionError("an unknown service has no health")
        except grpc.RpcError as failure:
            assert failure.code() == grpc.StatusCode.NOT_FOUND
        watch = health.Watch(health_pb2.HealthCheckRequest(service=""))
        assert next(watch).status == serving
        assert server.stop() == 0
        try:
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        except grpc.RpcError as failure:
            assert failure.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


def test_server_info(client):
    info = client.server.GetServerInfo(client.pb.server.GetServerInfoRequest())
    assert info.version.count(".") == 2 and info.device.kind in ("cpu", "cuda") and info.device.name
    assert [codec.preset for codec in info.codecs][0] == "balanced" and len(info.codecs) == 13
    assert list(info.head_dims) == [64, 128, 256] and len(info.dtypes) == 3
    assert info.limits.max_message_bytes == 64 << 20 and info.limits.max_query_tokens == 1024
    assert info.kv_capacity_bytes == 256 << 20
