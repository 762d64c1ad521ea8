"""The contract in protos/ as a module that builds alone, with packages for each language."""

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

PROTOS = Path("protos")
FILES = sorted(str(path.relative_to(PROTOS)) for path in (PROTOS / "postroom").rglob("*.proto"))
DETAILS = ("google/rpc/error_details.proto", "google/rpc/status.proto")
"""What clients decode the details of errors with."""


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FileDescriptorProto]:
    """Every file that the contract needs, compiled with protos/ as the only include path."""
    output = tmp_path_factory.mktemp("contract") / "contract.binpb"
    options = [f"-I{PROTOS}", "--include_imports", f"--descriptor_set_out={output}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, *FILES, *DETAILS], check=True, timeout=60)
    return {file.name: file for file in FileDescriptorSet.FromString(output.read_bytes()).file}


def test_module_builds_without_dependencies(contract: dict[str, FileDescriptorProto]) -> None:
    vendored = {str(path.relative_to(PROTOS)) for path in (PROTOS / "google").rglob("*.proto")}
    assert {name for name in contract if not name.startswith(("postroom/", "google/protobuf/"))} == vendored
    assert "Apache License" in (PROTOS / "google" / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FILES)
def test_each_file_names_its_packages(contract: dict[str, FileDescriptorProto], name: str) -> None:
    file = contract[name]
    title = ".".join(part.capitalize() for part in file.package.split(".")).replace("V1alpha1", "V1Alpha1")
    options = file.options
    path, _, alias = options.go_package.partition(";")
    assert path.partition("/")[0].count(".") >= 1, "Go takes an import path without a dot for the standard library"
    assert path.endswith("/" + file.package.replace(".", "/"))
    assert alias == file.package.replace(".", "")
    assert options.java_package == f"com.{file.package}"
    assert options.java_multiple_files
    # Two files of a package with one outer class would overwrite each other.
    assert options.java_outer_classname == Path(name).stem.title().replace("_", "") + "Proto"
    assert options.csharp_namespace == title
    assert options.php_namespace == title.replace(".", "\\")
    assert options.ruby_package == title.replace(".", "::")
