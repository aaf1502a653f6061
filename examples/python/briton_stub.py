"""Briton's stub from proto/briton.proto, compiled on the fly (grpcio-tools). Shared by the example clients."""

import os
import sys

import grpc

PROTO_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "proto")


def load():
    """The message module and the service module."""
    sys.path.insert(0, PROTO_FOLDER)
    try:
        return grpc.protos_and_services("briton.proto")
    finally:
        sys.path.remove(PROTO_FOLDER)


def new_request_id(counter):
    """Unique over processes: the process id's digits, then a counter (what Briton's own Python layer does)."""
    return int(f"{os.getpid()}{counter:08d}")
