"""The tests use the SDKs exactly as published."""

import base64
import hashlib
from importlib.metadata import distribution

import pytest

from tests.e2e.sdk.client import SDKS


@pytest.mark.parametrize("module", SDKS)
def test_sdk_files_have_their_published_hashes(module: str) -> None:
    files = [
        file
        for name in (module.replace("_", "-"), "scaleway-core")
        for file in distribution(name).files or ()
        if file.suffix == ".py" and ("mailbox" in file.parts or file.parts[0] == "scaleway_core")
    ]
    assert len(files) > 10
    for file in files:
        assert file.hash is not None
        digest = hashlib.new(file.hash.mode, file.read_binary()).digest()
        assert base64.urlsafe_b64encode(digest).decode().rstrip("=") == file.hash.value, file
