"""Sends one request to a Briton server and prints the answer as it comes.

    pip install grpcio grpcio-tools
    python examples/python/briton_client.py --prompt "A lighthouse is"
"""

import argparse
import sys

import briton_stub
import grpc


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="localhost:50051")
    parser.add_argument("--prompt", default="A lighthouse is")
    parser.add_argument("--output-len", type=int, default=64)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--top-k", type=int)
    parser.add_argument("--top-p", type=float)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--stop", action="append", default=[])
    arguments = parser.parse_args()

    messages, services = briton_stub.load()
    request = messages.InferenceRequest(
        request_id=briton_stub.new_request_id(1),
        input_text=arguments.prompt,
        request_output_len=arguments.output_len,
        stop_words=arguments.stop,
    )
    optional = {
        "temperature": arguments.temperature,
        "runtime_top_k": arguments.top_k,
        "runtime_top_p": arguments.top_p,
        "random_seed": arguments.seed,
    }
    for name, value in optional.items():
        if value is not None:
            setattr(request, name, value)

    tokens = 0
    reason = "?"
    with grpc.insecure_channel(arguments.address) as channel:
        try:
            for part in services.BritonStub(channel).Infer(request, wait_for_ready=True, timeout=300):
                tokens += len(part.output_ids)
                reason = messages.FinishReason.Name(part.finish_reason)
                print(part.output_text, end="", flush=True)
        except grpc.RpcError as error:
            print(f"{error.code().name}: {error.details()}", file=sys.stderr)
            return 1
    print(f"\n[{tokens} tokens, {reason}]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
