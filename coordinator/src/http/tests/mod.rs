//! The routers in this process, before a cluster that lives in memory.

pub(crate) mod stage;

mod bad_input;
mod calls;
mod websocket;
