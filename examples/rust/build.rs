//! Generates the stubs. protox compiles the contract, so that no protoc needs to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=../../protos");
    let files = protox::compile(["postroom/v1alpha1/mailbox_service.proto"], ["../../protos"])?;
    tonic_prost_build::configure().build_server(false).compile_fds(files)?;
    Ok(())
}
