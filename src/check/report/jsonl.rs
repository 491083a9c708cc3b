//! For programs and many images: a line of JSON a report, each written when it is known.

use super::{Form, Report, Style, Write, json};
use crate::text::json_safe;
use serde_json::{Value, json};

/// Lines of JSON.
pub const FORM: Form = Form { name: "jsonl", write: Write::Each(write) };

fn write(reports: &[Report], _: &Style) -> String {
    let mut out = String::new();
    for report in reports {
        let mut line = json!({"schema": json::SCHEMA});
        if let (Some(line), Value::Object(report)) = (line.as_object_mut(), json::result(report)) {
            line.extend(report);
        }
        putln!(out, "{}", json_safe(&line.to_string()));
    }
    out
}
