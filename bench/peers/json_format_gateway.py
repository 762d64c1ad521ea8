"""The gateway with protobuf's json_format as its encoder: `python -m bench.peers.json_format_gateway`.

It reads the same environment variables as `postroom gateway`.
"""

from google.protobuf import json_format
from google.protobuf.message import Message

from postroomd.gateway.transcode import Transcoder
from postroomd.runtime.processes import run_process
from postroomd.settings import load_settings


def encode(response: Message) -> bytes:
    """Encode a response with all of its fields."""
    text = json_format.MessageToJson(
        response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=None
    )
    return text.encode()


if __name__ == "__main__":
    Transcoder.encode = lambda self, response: encode(response)  # type: ignore[method-assign]
    run_process("gateway", load_settings({}))
