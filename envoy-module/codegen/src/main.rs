//! Regenerates `envoy-module/src/proto/` from a descriptor set, so that no build
//! needs protoc. In the repository's root:
//!
//! ```sh
//! python -m grpc_tools.protoc -I proto --include_imports \
//!     --descriptor_set_out=envoy-module/target/signer.binpb meshkey/signer/v1/signer.proto
//! cd envoy-module && cargo run --locked -p meshkey-codegen -- target/signer.binpb src/proto
//! ```

use std::error::Error;
use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [descriptors, out_dir] = arguments.as_slice() else {
        return Err("usage: meshkey-codegen <descriptor set> <output directory>".into());
    };
    let descriptors =
        prost_types::FileDescriptorSet::decode(std::fs::read(descriptors)?.as_slice())?;
    tonic_prost_build::configure()
        .build_transport(false)
        // The server side is for the crate's own tests.
        .server_mod_attribute(".", "#[cfg(test)]")
        .out_dir(out_dir)
        .compile_fds(descriptors)?;
    Ok(())
}
