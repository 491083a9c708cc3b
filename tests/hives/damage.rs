//! Damaged hives: one bad cell costs what points at it.

use super::*;

/// Where the key of a name lies in a hive's file: its cell, in front of `nk`.
fn cell_of(bytes: &[u8], name: &str) -> usize {
    let is_key =
        |at: &usize| bytes[*at..].starts_with(name.as_bytes()) && bytes[at - 76..].starts_with(b"nk");
    (4096..bytes.len()).find(is_key).unwrap() - 80
}

fn put(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

/// Three keys with a value each.
fn small(place: &Place, options: &str) -> Vec<u8> {
    let text =
        "[alpha\\below]\n\"a\"=\"text of a\"\n[beta]\n\"b\"=\"text of b\"\n[gamma]\n\"c\"=\"text of c\"\n";
    fs::read(place.make("small", options, text)).unwrap()
}

fn hive(bytes: Vec<u8>) -> Hive {
    Hive::open(Arc::new(bytes), &Logs::default()).unwrap()
}

#[test]
fn a_bad_key_costs_itself() {
    requires!("python3");
    let place = Place::new();
    let mut bytes = small(&place, "--list lf");
    let whole = walk(&hive(bytes.clone())).0;
    let at = cell_of(&bytes, "beta");
    bytes[at + 4] = b'x';
    let hive = hive(bytes);
    let (lines, errors) = walk(&hive);
    assert_eq!(lines, whole.iter().filter(|line| !line.starts_with("\\beta")).cloned().collect::<Vec<_>>());
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains("key node") && errors[0].contains("begin with nk"), "{errors:?}");
    // It is unknown whether there is a beta; of the others it is known.
    assert!(hive.key("beta").is_err());
    assert!(hive.key("gamma").unwrap().is_some() && hive.key("delta").unwrap().is_none());
}

#[test]
fn a_bad_value_costs_itself() {
    requires!("python3");
    let place = Place::new();
    let mut bytes = small(&place, "");
    let at = bytes.windows(2).position(|window| window == b"vk").unwrap();
    // A cell that is free
    put(&mut bytes, at - 4, 32);
    let (lines, errors) = walk(&hive(bytes));
    assert_eq!(lines.iter().filter(|line| line.matches('|').count() == 3).count(), 2);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains("key value") && errors[0].contains("not in use"), "{errors:?}");
}

#[test]
fn a_key_below_itself_is_not_entered() {
    requires!("python3");
    let place = Place::new();
    let mut bytes = small(&place, "--list li");
    // The list of alpha's subkeys leads to alpha.
    let (alpha, below) = (cell_of(&bytes, "alpha"), cell_of(&bytes, "below"));
    let entry = [b"li\x01\0".as_slice(), &((below - 4096) as u32).to_le_bytes()].concat();
    let list = bytes.windows(8).position(|window| window == entry).unwrap();
    put(&mut bytes, list + 4, (alpha - 4096) as u32);
    let (lines, errors) = walk(&hive(bytes));
    assert_eq!(lines.iter().filter(|line| line.starts_with("\\alpha")).count(), 1);
    assert!(errors.iter().any(|error| error.contains("says it is one of")), "{errors:?}");
}

#[test]
fn counts_that_disagree_are_said() {
    requires!("python3");
    let place = Place::new();
    let sound = small(&place, "");
    let root = cell_of(&sound, "ROOT");
    let cases =
        [(root + 4 + 20, 70_000, "are listed"), (cell_of(&sound, "beta") + 4 + 36, 70_000, "values in")];
    for (at, number, why) in cases {
        let mut bytes = sound.clone();
        put(&mut bytes, at, number);
        let (_, errors) = walk(&hive(bytes));
        assert!(errors.iter().any(|error| error.contains(why)), "{why}: {errors:?}");
    }
}

#[test]
fn what_is_no_hive_is_refused() {
    let refused = |bytes: Vec<u8>| Hive::open(Arc::new(bytes), &Logs::default()).unwrap_err().chain();
    assert!(refused(Vec::new()).contains("0 bytes"));
    assert!(refused(vec![0; 8192]).contains("does not begin with regf"));
    let mut version = vec![0; 8192];
    version[..4].copy_from_slice(b"regf");
    version[20] = 1;
    version[24] = 1;
    assert!(refused(version).contains("version 1.1"));
}

/// A generator of numbers, so that every run damages the same bytes (xorshift, of Marsaglia).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

/// A few damaged bytes a time, in hive and logs, the checksum right or wrong. Nothing may panic or take long; what is
/// found is read to its end.
#[test]
fn damage_ends_in_errors() {
    requires!("python3");
    let rounds = std::env::var("IMGMOUNT_HIVE_ROUNDS").map_or(2000, |rounds| rounds.parse().unwrap());
    let place = Place::new();
    let text = &TEXT
        .replace("\"Cell\"=fill:16344\n\"Two parts\"=fill:16345\n", "")
        .replace("fill:40000", "fill:17000");
    place.text("after.txt", &format!("{text}[New]\n\"a\"=dword:1\n"));
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for log in ["old", "new"] {
        let options =
            format!("--list lh --leaf 2 --log {log} --then '{}'", place.path("after.txt").display());
        let path = place.make("hive", &options, text);
        let read = |ending: &str| fs::read(format!("{}{ending}", path.display())).unwrap_or_default();
        let sound = [read(""), read(".LOG1"), read(".LOG2")];
        // Where the structures are: not the long data.
        let full: Vec<usize> =
            (0..sound[0].len() - 64).filter(|at| sound[0][*at..*at + 64] != *fill(*at, &sound[0])).collect();
        for _ in 0..rounds {
            let mut files = sound.clone();
            for _ in 0..=dice.roll(4) {
                let file = [0, 0, 0, 1, 2][dice.roll(5)];
                let len = files[file].len();
                if len == 0 {
                    continue;
                }
                let at = if file == 0 { full[dice.roll(full.len())] } else { dice.roll(len.min(6000)) };
                files[file][at] = [0, 1, 0x7f, 0x80, 0xff, dice.roll(256) as u8][dice.roll(6)];
            }
            let [mut hive, log1, log2] = files;
            if dice.roll(4) > 0 {
                logs::restamp(&mut hive);
            }
            let logs = Logs { log: None, log1: Some(Arc::new(log1)), log2: Some(Arc::new(log2)) };
            if let Ok(hive) = Hive::open(Arc::new(hive), &logs) {
                let found = hive.root().map_or(0, |root| everything(&root));
                assert!(found < 1000, "{found} keys and values of a hive that has 30");
                drop(
                    hive.key("ControlSet001\\Services\\viostor").map(|key| key.map(|key| key.value("Start"))),
                );
            }
        }
    }
}

/// Reads all there is; how many keys and values.
fn everything(key: &Key) -> usize {
    let values = key.values().filter(|value| value.as_ref().is_ok_and(|value| value.data().is_ok())).count();
    drop(key.class());
    1 + values + key.subkeys().flatten().map(|child| everything(&child)).sum::<usize>()
}

/// The 64 bytes that the script's long data would have here.
fn fill(at: usize, bytes: &[u8]) -> Vec<u8> {
    (0..64).map(|n| ((usize::from(bytes[at]) + n) % 251) as u8).collect()
}
