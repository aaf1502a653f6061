"""Drives a Briton server with grpcio: argv is address and the text that the server says over and over. Prints ok."""

import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples", "python"))
import briton_stub
import grpc

address, says = sys.argv[1], sys.argv[2]
messages, services = briton_stub.load()
prompt = "." * len(says.encode())


def ask(stub, **fields):
    return list(stub.Infer(messages.InferenceRequest(input_text=prompt, **fields), timeout=60))


def refused(stub, code, **fields):
    try:
        list(stub.Infer(messages.InferenceRequest(**fields), timeout=60))
    except grpc.RpcError as error:
        assert error.code() == code, (fields, error.code(), error.details())
        return error.details()
    raise AssertionError(f"not refused: {fields}")


with grpc.insecure_channel(address) as channel:
    stub = services.BritonStub(channel)
    identity = 2**62 + 12345
    parts = ask(stub, request_id=identity, request_output_len=len(says.encode()))
    assert "".join(part.output_text for part in parts) == says, parts
    assert all(part.request_id == identity for part in parts)
    assert sum(len(part.output_ids) for part in parts) == len(says.encode())
    assert parts[-1].finish_reason == messages.LENGTH
    assert all(part.finish_reason == messages.NOT_FINISHED for part in parts[:-1])

    ids = messages.InferenceRequest(input_ids=list(prompt.encode()), request_output_len=4, temperature=0.5, runtime_top_k=3, random_seed=-7)
    assert sum(len(part.output_ids) for part in stub.Infer(ids, timeout=60)) == 4

    stopped = ask(stub, request_output_len=64, stop_words=[says[-3:]])
    assert "".join(part.output_text for part in stopped) == says[:-3]
    assert stopped[-1].finish_reason == messages.STOP_WORDS

    assert "beam_width" in refused(stub, grpc.StatusCode.INVALID_ARGUMENT, input_text="a", beam_width=4)
    assert "LoRA" in refused(stub, grpc.StatusCode.UNIMPLEMENTED, input_text="a", lora_task_id=3)
    refused(stub, grpc.StatusCode.INVALID_ARGUMENT)

    call = stub.Infer(messages.InferenceRequest(input_text="a", request_output_len=1900), timeout=60)
    next(call)
    call.cancel()

    # Many streams of one channel at once.
    counts = []
    threads = [
        threading.Thread(target=lambda: counts.append(sum(len(part.output_ids) for part in ask(stub, request_output_len=8))))
        for _ in range(200)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [8] * 200, counts

print("ok")
