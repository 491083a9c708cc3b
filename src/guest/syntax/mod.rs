//! The few kinds of syntax that configuration files of a Linux share: `KEY=value` of the shell, sections of `key=value`,
//! and the plain part of YAML.

pub mod ini;
pub mod variables;
pub mod yaml;
