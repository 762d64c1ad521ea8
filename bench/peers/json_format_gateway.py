"""The gateway with protobuf's own JSON: `python -m bench.peers.json_format_gateway`.

It takes the variables that `postroom gateway` takes.
"""

from google.protobuf import json_format
from google.protobuf.message import Message

from postroomd.gateway.transcode import Transcoder
from postroomd.runtime.processes import run_process
from postroomd.settings import load_settings


def encode(response: Message) -> bytes:
    """Write an answer, every field of it."""
    shown = json_format.MessageToJson(
        response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=None
    )
    return shown.encode()


if __name__ == "__main__":
    Transcoder.encode = lambda self, response: encode(response)  # type: ignore[method-assign]
    run_process("gateway", load_settings({}))
