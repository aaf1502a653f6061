"""tritonclient (gRPC, HTTP, asyncio, shared memory) and raw grpcio against a running server. Arguments: HTTP port, gRPC port, metrics port, proto folder."""
import asyncio
import queue
import sys
import tempfile
import urllib.request

import grpc
import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.grpc.aio as grpcaio
import tritonclient.http as httpclient
import tritonclient.http.aio as httpaio
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

http_port, grpc_port, metrics_port, proto_folder = sys.argv[1:5]
http_url, grpc_url = f"127.0.0.1:{http_port}", f"127.0.0.1:{grpc_port}"


def tensor(module, name, values):
    given = module.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
    given.set_data_from_numpy(values)
    return given


def refused(call, text, status=None):
    try:
        call()
    except InferenceServerException as error:
        assert text in error.message(), error.message()
        assert status is None or error.status() == status, error.status()
        return
    raise AssertionError(f"not refused: {text}")


ints = np.array([1, -2, 3], np.int32)
values = {
    "INT32": ints,
    "FP32": np.array([0.1, 1e20], np.float32),
    "STRING": np.array([b"a", "é".encode(), b""], np.object_),
    "BOOL": np.array([True, False]),
    "INT64": np.array([2**62, -1], np.int64),
    "UINT8": np.array([0, 255], np.uint8),
    "FP16": np.array([1.5, -2], np.float16),
    "UINT64": np.array([2**64 - 1], np.uint64),
    "FP64": np.array([1e300], np.float64),
    "INT8": np.array([-128], np.int8),
}


def check_synchronous(module, client, **options):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("ident") and client.is_model_ready("ident", "1") and not client.is_model_ready("nope")
    inputs = [tensor(module, f"IN_{kind}", one) for kind, one in values.items()]
    result = client.infer("ident", inputs, request_id="all types", **options)
    for kind, one in values.items():
        got = result.as_numpy(f"OUT_{kind}")
        assert got.dtype == one.dtype and (got == one).all(), (kind, got)
    batch = np.array([[1, 2], [3, 4]], np.int32)
    texts = np.array([[b"x"], [b"y"]], np.object_)
    result = client.infer("batched", [tensor(module, "IN", batch), tensor(module, "TEXT", texts)], **options)
    assert (result.as_numpy("OUT") == batch).all() and (result.as_numpy("TEXT_OUT") == texts).all()
    scores = tensor(module, "IN_FP32", np.array([0.25, 4, 2], np.float32))
    wanted = module.InferRequestedOutput("OUT_FP32", class_count=2)
    top = client.infer("ident", [scores], outputs=[wanted], **options).as_numpy("OUT_FP32")
    assert list(top) == [b"4.000000:1", b"2.000000:2"], top
    wrong = tensor(module, "IN_FP32", ints.astype(np.float64))
    refused(lambda: client.infer("ident", [wrong]), "data-type is 'FP64', but model 'ident' expects 'FP32'")
    refused(lambda: client.infer("nope", [scores]), "Request for unknown model: 'nope' is not found")
    refused(lambda: client.infer("repeat", [tensor(module, "IN", ints)]), "decoupled transaction policy")
    refused(lambda: client.infer("ident", [scores, scores]), "already exists in request")


def check_shared_memory(module, client):
    size = ints.nbytes
    region = shm.create_shared_memory_region("both", f"/nereid_foreign_{module.__name__.split('.')[1]}", 2 * size)
    try:
        shm.set_shared_memory_region(region, [ints])
        key = f"/nereid_foreign_{module.__name__.split('.')[1]}"
        client.register_system_shared_memory("both", key, 2 * size)
        refused(lambda: client.register_system_shared_memory("both", key, size), "already in manager")
        given = module.InferInput("IN", [3], "INT32")
        given.set_shared_memory("both", size)
        wanted = module.InferRequestedOutput("OUT")
        wanted.set_shared_memory("both", size, offset=size)
        client.infer("single", [given], outputs=[wanted])
        got = shm.get_contents_as_numpy(region, np.int32, [6])
        assert list(got) == [1, -2, 3, 1, -2, 3], got
        given.set_shared_memory("both", size, offset=2 * size)
        refused(lambda: client.infer("single", [given]), "Invalid offset for shared memory region: 'both'")
        status = client.get_system_shared_memory_status()
        assert "both" in str(status)
        client.unregister_system_shared_memory("both")
        refused(lambda: client.get_system_shared_memory_status("both"), "Unable to find system shared memory region")
    finally:
        shm.destroy_shared_memory_region(region)


def check_stream(client):
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    client.async_stream_infer("repeat", [tensor(grpcclient, "IN", ints)], request_id="s1", enable_empty_final_response=True)
    got = []
    while True:
        result, error = answers.get(timeout=60)
        assert error is None, error
        response = result.get_response()
        assert response.id == "s1"
        if response.parameters["triton_final_response"].bool_param:
            assert len(response.outputs) == 0
            break
        got.append(int(result.as_numpy("OUT")[0]))
    assert got == list(ints), got
    # An error leaves the stream open.
    client.async_stream_infer("repeat", [tensor(grpcclient, "NOPE", ints)], request_id="bad")
    result, error = answers.get(timeout=60)
    assert "NOPE" in error.message(), error
    client.async_stream_infer("single", [tensor(grpcclient, "IN", ints)], request_id="s2")
    result, error = answers.get(timeout=60)
    assert error is None and list(result.as_numpy("OUT")) == list(ints)
    client.stop_stream()


async def check_asynchronous():
    async with grpcaio.InferenceServerClient(grpc_url) as client:
        assert await client.is_server_ready()
        calls = [client.infer("single", [tensor(grpcclient, "IN", ints + i)]) for i in range(64)]
        for i, result in enumerate(await asyncio.gather(*calls)):
            assert (result.as_numpy("OUT") == ints + i).all()

        async def requests():
            for i in range(3):
                yield {"model_name": "repeat", "inputs": [tensor(grpcclient, "IN", ints)], "request_id": str(i)}

        seen = {}
        async for result, error in client.stream_infer(requests()):
            assert error is None, error
            seen.setdefault(result.get_response().id, []).append(int(result.as_numpy("OUT")[0]))
        assert seen == {str(i): list(ints) for i in range(3)}, seen
    async with httpaio.InferenceServerClient(http_url) as client:
        calls = [client.infer("single", [tensor(httpclient, "IN", ints + i)]) for i in range(64)]
        for i, result in enumerate(await asyncio.gather(*calls)):
            assert (result.as_numpy("OUT") == ints + i).all()


def check_administration():
    with grpcclient.InferenceServerClient(grpc_url) as client:
        assert client.get_server_metadata().name == "triton"
        config = client.get_model_config("batched").config
        assert config.max_batch_size == 8 and config.input[1].optional
        assert {model.name for model in client.get_model_repository_index().models} >= {"ident", "repeat"}
        client.unload_model("text")
        assert not client.is_model_ready("text")
        client.load_model("text")
        assert client.is_model_ready("text")
        stats = client.get_inference_statistics("single").model_stats[0]
        assert stats.inference_count > 64 and stats.inference_stats.success.count > 64
        assert client.get_trace_settings().settings["trace_rate"].value == ["1000"]
        client.update_log_settings({"log_verbose_level": 1})
        assert client.get_log_settings().settings["log_verbose_level"].uint32_param == 1
        client.update_log_settings({"log_verbose_level": 0})
        assert len(client.get_cuda_shared_memory_status().regions) == 0
    metrics = urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics").read().decode()
    assert 'nv_inference_request_success{model="single",version="1"}' in metrics


def check_raw_grpc():
    from grpc_tools import protoc

    out = tempfile.mkdtemp()
    arguments = ["", f"-I{proto_folder}", f"--python_out={out}", f"--grpc_python_out={out}"]
    names = ["nereid_raw_service.proto", "nereid_raw_config.proto", "health.proto"]
    # Under names of their own: tritonclient has registered the others in this process.
    sources = tempfile.mkdtemp()
    for source, target in (("grpc_service.proto", names[0]), ("model_config.proto", names[1])):
        text = open(f"{proto_folder}/{source}").read().replace("model_config.proto", names[1])
        open(f"{sources}/{target}", "w").write(text.replace("package inference;", "package raw;"))
    assert protoc.main(["", f"-I{sources}", f"-I{proto_folder}", *arguments[2:], *names]) == 0
    sys.path.insert(0, out)
    import health_pb2
    import health_pb2_grpc
    import nereid_raw_service_pb2 as messages

    with grpc.insecure_channel(grpc_url) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
        assert health.Check(health_pb2.HealthCheckRequest(service="ident")).status == 1
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelInferResponse.FromString,
        )
        request = messages.ModelInferRequest(model_name="single", id="raw")
        request.inputs.add(name="IN", datatype="INT32", shape=[3]).contents.int_contents.extend([1, -2, 3])
        response = infer(request)
        assert response.id == "raw" and np.frombuffer(response.raw_output_contents[0], np.int32).tolist() == [1, -2, 3]
        # More than gRPC's usual 4 MB, both ways.
        large = np.arange(4_000_000, dtype=np.int32)
        request = messages.ModelInferRequest(model_name="single", raw_input_contents=[large.tobytes()])
        request.inputs.add(name="IN", datatype="INT32", shape=[large.size])
    with grpc.insecure_channel(grpc_url, [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelInferResponse.FromString,
        )
        assert infer(request).raw_output_contents[0] == large.tobytes()


with grpcclient.InferenceServerClient(grpc_url) as client:
    check_synchronous(grpcclient, client)
    check_shared_memory(grpcclient, client)
    check_stream(client)
    check_synchronous(grpcclient, client, compression_algorithm="gzip")
with httpclient.InferenceServerClient(http_url) as client:
    check_synchronous(httpclient, client)
    for algorithm in ("gzip", "deflate"):
        check_synchronous(httpclient, client, request_compression_algorithm=algorithm, response_compression_algorithm=algorithm)
    check_shared_memory(httpclient, client)
asyncio.run(check_asynchronous())
check_administration()
check_raw_grpc()
print("ok")
