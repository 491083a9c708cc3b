//! Hives of real Windows, with what other readers find in them.

use super::*;

/// Unpacks a hive and its logs: how many keys it has, how many values, and what could not be read.
fn count(place: &Place, hive: &str, log1: Option<&str>, log2: Option<&str>) -> (usize, usize, Vec<String>) {
    let unpack = |name: &str, to: &str| {
        let from = common::corpus().unwrap().join("guest").join(name);
        let tool = if name.ends_with(".xz") { "xzcat" } else { "cat" };
        sh(&format!("{tool} '{}' > '{}'", from.display(), place.path(to).display()));
    };
    unpack(hive, "hive");
    for (log, to) in [(log1, "hive.LOG1"), (log2, "hive.LOG2")] {
        drop(fs::remove_file(place.path(to)));
        log.into_iter().for_each(|log| unpack(log, to));
    }
    let (lines, errors) = walk(&open_with_logs(&place.path("hive")));
    let values = lines.iter().filter(|line| line.matches('|').count() > 1).count();
    (lines.len() - values, values, errors)
}

#[test]
fn hives_of_windows_have_as_many_keys_and_values_as_others_find() {
    requires!("corpus", "xzcat");
    let place = Place::new();
    // notatin
    assert_eq!(count(&place, "regipy/BCD.xz", None, None), (132, 103, Vec::new()));
    // hivexml
    assert_eq!(count(&place, "regipy/SYSTEM_WIN_10_1709.xz", None, None), (43211, 90307, Vec::new()));
    // yarp, with the log
    let log = Some("regipy/transactions_ntuser.dat.log1.xz");
    assert_eq!(count(&place, "regipy/transactions_NTUSER.DAT.xz", log, None), (3105, 4695, Vec::new()));
    // notatin, which leaves out keys and values that it cannot read
    let (keys, values, errors) = count(&place, "regipy/corrupted_system_hive.xz", None, None);
    let without_data = errors.iter().filter(|error| error.contains("value data")).count();
    assert_eq!((keys, values + without_data), (1687, 5625), "{errors:?}");
}

#[test]
fn hives_of_windows_are_what_hivex_reads() {
    requires!("corpus", "hivexsh");
    let dir = common::corpus().unwrap().join("guest");
    for name in ["ezregistry/BCD", "ezregistry/SAM", "libguestfs/minimal-hive"] {
        assert!(same_as_hivex(&dir.join(name)) > 0, "{name}");
    }
    assert!(open(&dir.join("ezregistry/NotAHive")).is_err());
}
