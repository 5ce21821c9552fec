//! Every engine that runs real processes must pass the same checks: `suite`, once per engine.
//!
//! A check that this machine cannot run is named loudly and left out; with `REQUIRE_ALL=1` it fails instead.

#[macro_use]
mod suite;
mod docker;
mod process;
