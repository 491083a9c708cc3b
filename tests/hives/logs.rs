//! Hives whose writing was cut off.

use super::*;

/// The state before and after, with enough between them to dirty pages all over the hive.
fn states() -> (String, String) {
    (TEXT.to_owned(), many().replace("\"b\"", "\"changed\""))
}

/// A dirty hive with its logs, and what it should be after them.
fn cut_off(place: &Place, log: &str) -> (PathBuf, Vec<String>) {
    let (before, after) = states();
    let whole = place.make("after", "", &after);
    let options = format!("--log {log} --then '{}'", place.path("after.txt").display());
    let hive = place.make("hive", &options, &before);
    let (lines, errors) = walk(&open(&whole).unwrap());
    assert_eq!(errors, [""; 0]);
    (hive, lines)
}

/// The base block's checksum of bytes that were changed.
pub(super) fn restamp(bytes: &mut [u8]) {
    let words = bytes[..508].chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
    let sum = words.fold(0, |sum, word| sum ^ word);
    bytes[508..512].copy_from_slice(&sum.to_le_bytes());
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn log_of(hive: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}.{ending}", hive.display()))
}

#[test]
fn an_old_log_completes_a_hive() {
    requires!("python3");
    let place = Place::new();
    let (hive, after) = cut_off(&place, "old");
    let opened = open_with_logs(&hive);
    assert!(opened.is_dirty() && opened.warnings().is_empty(), "{:?}", opened.warnings());
    assert_eq!(opened.replayed()[0].log, ".LOG1");
    assert_eq!(walk(&opened), (after, Vec::new()));
}

#[test]
fn new_logs_complete_a_hive_in_the_order_of_their_numbers() {
    requires!("python3");
    let place = Place::new();
    let (hive, after) = cut_off(&place, "new");
    let opened = open_with_logs(&hive);
    assert!(opened.warnings().is_empty(), "{:?}", opened.warnings());
    assert_eq!(opened.replayed().iter().map(|log| log.log).collect::<Vec<_>>(), [".LOG2", ".LOG1"]);
    assert_eq!(walk(&opened), (after, Vec::new()));
}

#[test]
fn without_its_logs_a_dirty_hive_says_so() {
    requires!("python3");
    let place = Place::new();
    let (hive, after) = cut_off(&place, "new");
    let opened = open(&hive).unwrap();
    assert!(opened.is_dirty() && opened.replayed().is_empty());
    assert_eq!(opened.warnings().len(), 1);
    assert_ne!(walk(&opened).0, after);
}

#[test]
fn a_clean_hive_has_no_use_for_its_logs() {
    requires!("python3");
    let place = Place::new();
    let (hive, after) = cut_off(&place, "new");
    edit(&hive, |bytes| {
        bytes[4] = bytes[8];
        restamp(bytes);
    });
    let opened = open_with_logs(&hive);
    assert!(!opened.is_dirty() && opened.replayed().is_empty() && opened.warnings().is_empty());
    assert_ne!(walk(&opened).0, after);
}

#[test]
fn a_bad_base_block_is_taken_from_the_log() {
    requires!("python3");
    let place = Place::new();
    let (hive, after) = cut_off(&place, "old");
    edit(&hive, |bytes| bytes[36..44].fill(0xee));
    let opened = open_with_logs(&hive);
    assert_eq!(walk(&opened), (after, Vec::new()));
}

#[test]
fn of_new_logs_a_bad_base_block_takes_the_later_alone() {
    requires!("python3");
    let place = Place::new();
    let (hive, _) = cut_off(&place, "new");
    edit(&hive, |bytes| bytes[36..44].fill(0xee));
    let opened = open_with_logs(&hive);
    assert_eq!(opened.replayed().iter().map(|log| log.log).collect::<Vec<_>>(), [".LOG1"]);
}

#[test]
fn a_log_is_used_up_to_its_first_bad_entry() {
    requires!("python3");
    let place = Place::new();
    let (hive, after) = cut_off(&place, "new");
    let whole = open_with_logs(&hive).replayed()[0];
    // Behind the base block one entry with a page is 4608 bytes; the third one's page loses a bit.
    edit(&log_of(&hive, "LOG2"), |bytes| bytes[512 + 2 * 4608 + 1000] ^= 1);
    let opened = open_with_logs(&hive);
    let [cut] = opened.replayed() else { panic!("{:?}", opened.replayed()) };
    assert_eq!((whole.entries > 2, cut.entries), (true, 2));
    // The other log goes on after what is missing now.
    assert_eq!(opened.warnings().len(), 1, "{:?}", opened.warnings());
    assert_ne!(walk(&opened).0, after);
}

#[test]
fn a_log_that_is_older_or_cut_off_itself_is_not_used() {
    requires!("python3");
    let place = Place::new();
    let (hive, _) = cut_off(&place, "old");
    let log = log_of(&hive, "LOG1");
    let sound = fs::read(&log).unwrap();
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, Change); 4] = [
        ("written before the hive", |bytes| {
            bytes[19] = 0;
            restamp(bytes);
        }),
        ("not written to the end", |bytes| {
            bytes[4] = 99;
            restamp(bytes);
        }),
        ("does not begin with DIRT", |bytes| bytes[512] = 0),
        ("the log ends before the last of them", |bytes| bytes.truncate(bytes.len() - 512)),
    ];
    for (why, change) in changes {
        fs::write(&log, &sound).unwrap();
        edit(&log, change);
        let opened = open_with_logs(&hive);
        assert!(opened.replayed().is_empty(), "{why}");
        assert!(opened.warnings()[0].contains(why), "{why}: {:?}", opened.warnings());
    }
}
