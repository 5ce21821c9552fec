//! The workers' side of the coordinator: one stream per worker, and the logs they bring.

pub mod logs;
pub mod service;
pub mod sessions;
