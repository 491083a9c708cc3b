//! This host: the two processes of the long-lived doors, and what they need of the operating system.

pub mod events;
pub mod handoff;
pub mod holders;
pub mod inherited;
pub mod limits;
pub mod mount;
pub mod mounts;
pub mod namespace;
pub mod notify;
pub mod pid_file;
pub mod register;
pub mod running;
pub mod runtime;
