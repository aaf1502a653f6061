"""tritonclient over gRPC: context and generation logits of tensorrt_llm, streamed and whole."""

import queue
import sys

import numpy as np
import tritonclient
import tritonclient.grpc as grpcclient

client = grpcclient.InferenceServerClient(f"localhost:{sys.argv[1]}")


def ask(model, tensors, outputs=None):
    inputs = []
    for name, values in tensors.items():
        kind = {"int32": "INT32", "bool": "BOOL", "object": "BYTES"}[values.dtype.name]
        inputs.append(grpcclient.InferInput(name, values.shape, kind))
        inputs[-1].set_data_from_numpy(values)
    wanted = [grpcclient.InferRequestedOutput(name) for name in outputs] if outputs else None
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    client.async_stream_infer(model, inputs, outputs=wanted, enable_empty_final_response=True)
    results = []
    while True:
        result, error = answers.get(timeout=120)
        assert error is None, error
        final = result.get_response().parameters["triton_final_response"].bool_param
        if len(result.get_response().outputs) > 0:
            results.append(result)
        if final:
            break
    client.stop_stream()
    return results


def ids_of(prompt, count, **flags):
    return {
        "input_ids": np.array([prompt], dtype=np.int32),
        "input_lengths": np.array([[len(prompt)]], dtype=np.int32),
        "request_output_len": np.array([[count]], dtype=np.int32),
        **{name: np.array([[value]], dtype=bool) for name, value in flags.items()},
    }


prompt = [40, 300, 512, 77, 9, 1500]
asked = dict(return_context_logits=True, return_generation_logits=True)
[whole] = ask("tensorrt_llm", ids_of(prompt, 4, exclude_input_in_output=True, **asked))
made = whole.as_numpy("output_ids")[0, 0]
context = whole.as_numpy("context_logits")
generation = whole.as_numpy("generation_logits")
assert context.shape[:2] == (1, len(prompt)) and context.dtype == np.float32, context.shape
assert generation.shape == (1, 1, len(made), context.shape[2]), generation.shape
assert list(generation[0, 0].argmax(axis=1)) == list(made), made
assert context[0, -1].argmax() == made[0]

# What was generated, as a prompt, has the same logits.
longer = prompt + [int(token) for token in made[:-1]]
[again] = ask("tensorrt_llm", ids_of(longer, 1, return_context_logits=True))
rows = again.as_numpy("context_logits")[0, len(prompt) - 1 :]
error = np.linalg.norm(rows - generation[0, 0]) / np.linalg.norm(rows)
assert error < 0.02, error
assert again.as_numpy("generation_logits") is None

streamed = ask("tensorrt_llm", ids_of(prompt, 4, streaming=True, **asked))
assert streamed[0].as_numpy("context_logits").shape == context.shape
pieces = [result.as_numpy("generation_logits")[0, 0] for result in streamed if result.as_numpy("output_ids").size > 0]
assert np.concatenate(pieces).shape == generation[0, 0].shape
assert list(np.concatenate(pieces).argmax(axis=1)) == list(made)

text = {
    "text_input": np.array([[b"A river is"]], dtype=object),
    "max_tokens": np.array([[3]], dtype=np.int32),
    "return_context_logits": np.array([[True]], dtype=bool),
    "return_generation_logits": np.array([[True]], dtype=bool),
}
for model in ["ensemble", "tensorrt_llm_bls"]:
    [result] = ask(model, text)
    assert result.as_numpy("generation_logits").shape[2:] == (3, context.shape[2]), model
    assert result.as_numpy("context_logits").shape[2] == context.shape[2], model

print(f"tritonclient {tritonclient.__version__ if hasattr(tritonclient, '__version__') else ''}: ok")
