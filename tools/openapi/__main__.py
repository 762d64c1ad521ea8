"""`python -m tools.openapi DESCRIPTORS OUTPUT…` writes the OpenAPI document of a descriptor set with comments."""

import json
import sys
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from tools.openapi.comments import Comments
from tools.openapi.document import document


def main(descriptors: str, *outputs: str) -> None:
    """Write the document to each of the files."""
    comments = Comments(FileDescriptorSet.FromString(Path(descriptors).read_bytes()))
    text = json.dumps(document(comments), indent=2, ensure_ascii=False) + "\n"
    for output in outputs:
        Path(output).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
