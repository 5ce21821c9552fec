//! Generates the fleet protocol's types from `fleet/v1/fleet.proto`; needs `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tonic_prost_build::configure()
        // Maps in the order of their keys, so that the same message is the same bytes.
        .btree_map(".muster.fleet.v1")
        // Log pieces are handed on without a copy.
        .bytes(".muster.fleet.v1.LogPiece.data")
        .compile_protos(&["fleet/v1/fleet.proto"], &["."])?;
    Ok(())
}
