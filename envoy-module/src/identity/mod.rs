//! What the sidecar says this workload is: certificate, key name and whom to
//! trust, swapped as one.

pub mod bundles;
pub mod snapshot;
