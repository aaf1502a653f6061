"""Sends many requests at once to a Briton server and prints latencies and throughput.

    pip install grpcio grpcio-tools
    python examples/python/briton_load_client.py --concurrency 16 --requests 128

A channel carries a limited number of streams, so several are opened. With --tokenizer tokenizer.json (pip install tokenizers) the client
tokenizes the prompt and detokenizes the ids itself, as a serving layer in Python does. For more load than one Python process can make: nereid load.
"""

import argparse
import concurrent.futures
import itertools
import sys
import time

import briton_stub
import grpc


def percentile(ascending, share):
    return ascending[min(len(ascending) - 1, int(len(ascending) * share))] if ascending else 0.0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="localhost:50051")
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--requests", type=int, default=128)
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--prompt", default="A lighthouse is")
    parser.add_argument("--output-len", type=int, default=64)
    parser.add_argument("--tokenizer")
    arguments = parser.parse_args()

    messages, services = briton_stub.load()
    tokenizer = None
    if arguments.tokenizer:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(arguments.tokenizer)
    # One connection each: grpc shares connections of equal channels otherwise.
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.insecure_channel(arguments.address, options) for _ in range(arguments.channels)]
    stubs = itertools.cycle([services.BritonStub(channel) for channel in channels])
    work = [(number, next(stubs)) for number in range(arguments.requests)]

    def send(item):
        number, stub = item
        request = messages.InferenceRequest(
            request_id=briton_stub.new_request_id(number), request_output_len=arguments.output_len
        )
        if tokenizer:
            request.input_ids.extend(tokenizer.encode(arguments.prompt).ids)
        else:
            request.input_text = arguments.prompt
        start = time.perf_counter()
        first = None
        ids = []
        for part in stub.Infer(request, wait_for_ready=True, timeout=600):
            if first is None:
                first = time.perf_counter()
            ids.extend(part.output_ids)
            if tokenizer:
                tokenizer.decode(ids)
            if part.request_id != request.request_id:
                raise RuntimeError("an answer to another request")
        end = time.perf_counter()
        return (first or end) - start, end - start, len(ids)

    start = time.perf_counter()
    results, failures = [], []
    with concurrent.futures.ThreadPoolExecutor(arguments.concurrency) as pool:
        for future in [pool.submit(send, item) for item in work]:
            try:
                results.append(future.result())
            except grpc.RpcError as error:
                failures.append(f"{error.code().name}: {error.details()}")
    seconds = time.perf_counter() - start
    for channel in channels:
        channel.close()

    firsts = sorted(first for first, _, _ in results)
    totals = sorted(total for _, total, _ in results)
    tokens = sum(count for _, _, count in results)
    print(f"requests           {len(results)} done, {len(failures)} failed, {arguments.concurrency} at a time")
    print(f"requests/s         {len(results) / seconds:.2f}")
    print(f"output tokens/s    {tokens / seconds:.2f}")
    for name, values in (("first token", firsts), ("whole answer", totals)):
        mean = sum(values) / max(1, len(values))
        print(f"{name:<18} mean {mean * 1e3:.1f} ms, p50 {percentile(values, 0.5) * 1e3:.1f}, p99 {percentile(values, 0.99) * 1e3:.1f}")
    for failure in sorted(set(failures)):
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
