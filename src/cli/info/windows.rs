//! What `imgmount info` says of a Windows: build, edition, computer, drives, what starts it.

use super::plain;
use crate::cli::entry::time;
use crate::fs::Time;
use crate::guest::Guest;
use crate::guest::windows::{Product, Windows};
use crate::text::escape;
use serde_json::{Value, json};

/// What only a Windows has. What could not be read is null, and `errors` says why.
pub(super) fn object(guest: &Guest, windows: &Windows) -> Value {
    let (product, computer) = (guest.windows_product(), windows.computer());
    let errors: Vec<String> =
        product.err().into_iter().chain(computer.err()).map(|error| error.chain()).collect();
    let (product, computer) = (guest.windows_product().ok(), windows.computer().ok());
    let drives: Vec<Value> = windows
        .drives
        .iter()
        .map(|drive| {
            json!({
                "letter": format!("{}:", drive.letter),
                "volume": drive.volume,
                "known_by": drive.evidence.as_ref().map(|evidence| &evidence.what),
            })
        })
        .collect();
    let entries: Vec<Value> = windows
        .entries
        .iter()
        .map(|entry| {
            json!({
                "name": plain(&entry.name),
                "firmware": entry.firmware,
                "default": entry.is_default,
                "volume": entry.evidence.volume,
                "path": entry.evidence.path.as_ref().map(plain),
            })
        })
        .collect();
    json!({
        "directory": String::from_utf8_lossy(&windows.directory),
        "build": product.map(Product::full_build),
        "release": product.map(|product| plain(&product.release)),
        "edition": product.map(|product| plain(&product.edition)),
        "installation_type": product.map(|product| plain(&product.installation)),
        "service_pack": product.map(|product| plain(&product.service_pack)),
        "install_date": product.and_then(install_date),
        "computer": computer.map(|computer| plain(&computer.name)),
        "time_zone": computer.map(|computer| plain(&computer.time_zone)),
        "control_set": computer.map(|computer| computer.control_set),
        "drives": drives,
        "boot_entries": entries,
        "earlier": windows.earlier.as_ref().map(|path| String::from_utf8_lossy(path).into_owned()),
        "errors": errors,
    })
}

/// When a Windows was installed, RFC 3339.
fn install_date(product: &Product) -> Option<String> {
    product.installed.map(|secs| time(Time { secs, nanos: 0 }))
}

/// The same for people, one fact or a few in a line.
pub(super) fn lines(guest: &Guest, windows: &Windows) -> Vec<String> {
    let mut lines = Vec::new();
    let named =
        |name: &str, value: &str| if value.is_empty() { None } else { Some(format!("{name} {value}")) };
    let mut row = |parts: &[Option<String>]| {
        let parts: Vec<&str> = parts.iter().flatten().map(String::as_str).collect();
        if !parts.is_empty() {
            lines.push(format!("    {}", parts.join(", ")));
        }
    };
    match guest.windows_product() {
        Ok(product) => row(&[
            named("build", &product.full_build()),
            named("edition", &product.edition.to_string()),
            named("type", &product.installation.to_string()),
            named(
                "installed",
                install_date(product).unwrap_or_default().split('T').next().unwrap_or_default(),
            ),
        ]),
        Err(error) => row(&[Some(format!("what it is called cannot be read: {}", error.chain()))]),
    }
    match windows.computer() {
        Ok(computer) => row(&[
            named("computer", &computer.name.to_string()),
            named("time zone", &computer.time_zone.to_string()),
            named("control set", &computer.control_set.to_string()),
        ]),
        Err(error) => row(&[Some(format!("what its computer is called cannot be read: {}", error.chain()))]),
    }
    for drive in &windows.drives {
        let here = if drive.volume == guest.root {
            format!(", with {}", escape(&windows.directory))
        } else {
            String::new()
        };
        row(&[Some(format!("drive {}: is {}{here}", drive.letter, drive.volume))]);
    }
    for entry in &windows.entries {
        let default = if entry.is_default { ", by default" } else { "" };
        let path = entry.evidence.path.as_ref().map(ToString::to_string).unwrap_or_default();
        let store = format!("{}:{path}", entry.evidence.volume.as_deref().unwrap_or_default());
        row(&[Some(format!("started by '{}' of {store} ({}{default})", entry.name, entry.firmware))]);
    }
    if let Some(earlier) = &windows.earlier {
        row(&[Some(format!("an earlier system is kept in {}", escape(earlier)))]);
    }
    lines
}
