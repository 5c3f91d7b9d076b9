"""A stand-in for the AWS provider that knows its schema and does nothing.

It is enough for `terraform validate`, and for `terraform test`, which makes up what AWS would answer.
Terraform finds it by the address that start() returns and asks no registry.
"""

import json
import os
from concurrent import futures

import grpc

LIST = 2  # of the kinds of nested blocks


def number(it):
    """A varint"""
    return bytes([it]) if it < 128 else bytes([it & 127 | 128]) + number(it >> 7)


def field(key, it):
    """A field of a protobuf message; the messages are in Terraform's docs/plugin-protocol."""
    if isinstance(it, int):
        return number(key << 3) + number(it)
    return number(key << 3 | 2) + number(len(it)) + it


def block(known):
    message = b""
    for name, it in known.items():
        required = it.get("required", False)
        if "block" in it:
            nested = field(1, name.encode()) + field(2, block(it["block"])) + field(3, LIST)
            message += field(3, nested + field(4, int(required)) + field(5, int(it["one"])))
        else:
            attribute = field(1, name.encode()) + field(2, json.dumps(it["type"]).encode())
            # What is not set may be made up; the description does not say where it is.
            attribute += (
                field(4, int(required)) + field(5, int("required" in it and not required)) + field(6, int(not required))
            )
            message += field(2, attribute)
    return message


def schema(known):
    return field(2, block(known))


def schemas(known):
    string = {"required": False, "type": "string"}
    tags = {"tags": {"required": False, "type": ["map", "string"]}}
    message = field(1, schema({"region": string, "default_tags": {"required": False, "block": tags, "one": True}}))
    for key, kind in ((2, "resource"), (3, "data")):
        for name, it in known[kind].items():
            message += field(key, field(1, name.encode()) + field(2, schema(it)))
    return message


class Provider(grpc.GenericRpcHandler):
    def __init__(self, known):
        self.schemas = schemas(known)

    def service(self, call):
        answers = {
            "GetSchema": lambda request, _: self.schemas,
            # The question and the answer have the same shape: the configuration is fine as it is.
            "PrepareProviderConfig": lambda request, _: request,
            "ValidateResourceTypeConfig": lambda request, _: b"",
            "ValidateDataSourceConfig": lambda request, _: b"",
            "Configure": lambda request, _: b"",
            "Stop": lambda request, _: b"",
        }
        answer = answers.get(call.method.rpartition("/")[2])
        return answer and grpc.unary_unary_rpc_method_handler(answer)


def start(known):
    """A running server, and the variables that lead Terraform to it."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers([Provider(known)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    address = {"Network": "tcp", "String": f"127.0.0.1:{port}"}
    reattach = {"Protocol": "grpc", "ProtocolVersion": 5, "Pid": os.getpid(), "Test": True, "Addr": address}
    return server, {"TF_REATTACH_PROVIDERS": json.dumps({"hashicorp/aws": reattach})}
