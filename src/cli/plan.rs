//! From what was typed to what is meant: sizes, `IMAGE:PATH`, and an opened stack.

use super::{Common, unlock};
use crate::block::BlockSource;
use crate::cache::{Cache, disk};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::tree::{Follow, Node, Tree};
use crate::image::Opened;
use crate::locator::Locator;
use crate::source;
use crate::source::gate::{AllowedDir, Given};
use crate::stack::{Options, Stack};
use crate::text::escape;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Reads a size: `4096`, `64K`, `256M`, `1G` (powers of 1024).
///
/// # Errors
/// A line for clap to show.
pub fn size(text: &str) -> std::result::Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let (digits, unit) = match lower.char_indices().last() {
        Some((at, 'k')) => (lower.get(..at), 1 << 10),
        Some((at, 'm')) => (lower.get(..at), 1 << 20),
        Some((at, 'g')) => (lower.get(..at), 1 << 30),
        Some((at, 't')) => (lower.get(..at), 1_u64 << 40),
        _ => (Some(lower), 1),
    };
    let number: Option<u64> = digits.and_then(|digits| digits.trim().parse().ok());
    number
        .and_then(|number| number.checked_mul(unit))
        .ok_or_else(|| format!("'{text}' is not a size; write 4096, 64K, 256M or 1G"))
}

/// Reads the limit of the cache directory.
///
/// # Errors
/// A line for clap to show.
pub fn cache_dir_size(text: &str) -> std::result::Result<u64, String> {
    let least = disk::MIN_BYTES;
    match size(text)? {
        size if size < least => Err(format!("at least {}M, or it would keep nothing", least >> 20)),
        size => Ok(size),
    }
}

/// Reads a time: `500ms`, `30s`, `5m`, `2h`; a bare number is seconds.
///
/// # Errors
/// A line for clap to show.
pub fn duration(text: &str) -> std::result::Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let millis: Option<u64> = match unit {
        "ms" => Some(1),
        "" | "s" => Some(1000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let millis = millis.and_then(|unit| number.parse::<u64>().ok()?.checked_mul(unit));
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| format!("'{text}' is not a time; write 500ms, 30s, 5m or 2h"))
}

/// Reads the environment's word for a flag: `1`, `yes`, `true`, `on`, and their opposites.
#[must_use]
pub fn yes_or_no() -> clap::builder::BoolishValueParser {
    clap::builder::BoolishValueParser::new()
}

/// How many letters must be put in, left out or replaced to make one word of the other (Levenshtein).
#[must_use]
pub fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (n, from) in a.chars().enumerate() {
        let mut diagonal = n;
        let mut left = n.saturating_add(1);
        let mut next = vec![left];
        for (to, above) in b.chars().zip(row.iter().skip(1)) {
            let replaced = diagonal.saturating_add(usize::from(from != to));
            left = replaced.min(above.saturating_add(1)).min(left.saturating_add(1));
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

/// How to open, from the common options.
#[must_use]
pub fn options(common: &Common) -> Options {
    let cache = Arc::new(Cache::new(common.cache));
    let source = source::Options {
        connections: usize::from(common.connections),
        readahead: common.readahead,
        url_command: common.url_command.clone(),
        cache_dir_size: common.cache_dir_size,
        spool: None,
    };
    let (format, layer) = (common.format.clone(), common.layer.clone());
    Options {
        format,
        layer,
        journal: common.journal.into(),
        shows_meta: common.show_meta,
        os: common.os.clone(),
        volume: common.volume.clone(),
        cache,
        keys: Arc::clone(&common.keys),
        source: Arc::new(source),
    }
}

/// Opens everything that parsing the image may touch.
///
/// # Errors
/// `Source` when a file or directory cannot be opened.
pub fn given(image: &OsStr, common: &Common) -> Result<Arc<Given>> {
    let (archive, member) = split_member(image);
    let mut given = Given::open(Locator::parse(&archive), &common.allow_parent)?;
    given.member = member;
    if given.file.is_none()
        && let Some(path) = &common.cache_dir
    {
        let dir = disk::open_dir(path)?;
        given.cache_dir = Some(Arc::new(AllowedDir { path: path.clone(), dir }));
    }
    if let Some(named) = &common.spool {
        let dir = AllowedDir::open(&spool_dir(named, common)).map_err(|error| error.context("--spool"))?;
        given.spool_dir = Some(Arc::new(dir));
    }
    Ok(Arc::new(given))
}

/// What archives are called; of a URL nobody knows without asking whether `//` is part of its path.
const ARCHIVES: &[&str] = &[".ova", ".ovf", ".tar", ".box"];
/// How such a name may go on if the archive is packed.
const PACKED: &[&str] = &["", ".gz", ".xz", ".zst", ".bz2"];

/// `x.ova//disk2.vmdk`: an archive and the member of it that is meant. A path that exists as it is typed has no member.
#[must_use]
pub fn split_member(typed: &OsStr) -> (OsString, Option<String>) {
    let whole = || (typed.to_owned(), None);
    let bytes = typed.as_bytes();
    let server = url_server(bytes);
    let split = if server > 0 {
        typed.to_str().and_then(|url| url_member(url, server))
    } else if std::path::Path::new(typed).exists() {
        None
    } else {
        // The first "//" behind what is no directory; a file has nothing below it but members.
        let slashes = bytes.windows(2).enumerate().skip(1).filter(|(_, pair)| *pair == b"//");
        let outside = |at: &usize| {
            !std::path::Path::new(OsStr::from_bytes(bytes.get(..*at).unwrap_or_default())).is_dir()
        };
        slashes.map(|(at, _)| at).find(outside).and_then(|at| {
            let member = std::str::from_utf8(bytes.get(at.checked_add(2)?..)?).ok()?.to_owned();
            Some((OsString::from_vec(bytes.get(..at)?.to_vec()), member))
        })
    };
    split.map_or_else(whole, |(archive, member)| (archive, Some(member)))
}

/// A member of an archive on a server: behind the archive's name, `https://h/x.ova//disk2.vmdk?sign=...`, or at the very
/// end, `https://h/x.ova?sign=...//disk2.vmdk`.
fn url_member(url: &str, server: usize) -> Option<(OsString, String)> {
    let (path, query) = url.split_at(url.find(['?', '#']).unwrap_or(url.len()));
    let is_archive = |name: &str| {
        let lower = name.to_ascii_lowercase();
        let fits = |end: &str| PACKED.iter().any(|packed| lower.ends_with(&format!("{end}{packed}")));
        ARCHIVES.iter().any(|end| fits(end)) || lower.ends_with(".tgz")
    };
    let slashes = path.match_indices("//").map(|(at, _)| at).filter(|at| *at >= server);
    if let Some((archive, member)) =
        slashes.filter_map(|at| path.split_at_checked(at)).find(|(archive, _)| is_archive(archive))
    {
        let member = member.strip_prefix("//").unwrap_or(member);
        return Some((format!("{archive}{query}").into(), member.to_owned()));
    }
    let (query, member) = query.rsplit_once("//").filter(|(before, member)| {
        // What looks like more of the query is that: a value may have slashes in it.
        is_archive(path) && !before.ends_with(':') && !member.contains(['=', '&'])
    })?;
    Some((format!("{path}{query}").into(), member.to_owned()))
}

/// The name of an image as typed, for people: escaped, without secrets.
#[must_use]
pub fn shown(image: &OsStr) -> String {
    let (archive, member) = split_member(image);
    let archive = Locator::parse(&archive);
    member.map_or_else(|| archive.to_string(), |member| archive.member(&member).to_string())
}

/// An opened image's name as others see it, who look at a mount or a server from elsewhere.
#[must_use]
pub fn whole_name(given: &Given) -> String {
    let locator = match given.locator.as_path().map(std::path::absolute) {
        Some(Ok(path)) => Locator::Path(path),
        _ => given.locator.clone(),
    };
    given.member.as_ref().map_or_else(|| locator.to_string(), |member| locator.member(member).to_string())
}

/// The directory of `--spool`. Of those nobody named, /var/tmp comes last: /tmp is often in memory, and an image is large.
fn spool_dir(named: &OsStr, common: &Common) -> PathBuf {
    if !named.is_empty() {
        return PathBuf::from(named);
    }
    let own = common.cache_dir.clone().filter(|dir| dir.is_dir());
    let temporary = || std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    own.or_else(temporary).unwrap_or_else(|| PathBuf::from("/var/tmp"))
}

/// Opens the whole tower over an image.
///
/// # Errors
/// When the source or the image cannot be opened.
pub fn open(image: &OsStr, common: &Common) -> Result<Stack> {
    open_or_tell(image, common).map_err(|(error, _)| error)
}

/// As [`open`]; where that fails, with the file as it lies, if that could be opened: it may show what it is instead.
///
/// # Errors
/// As [`open`].
pub fn open_or_tell(image: &OsStr, common: &Common) -> Result<Stack, (Error, Option<Arc<dyn BlockSource>>)> {
    let options = options(common);
    let given = given(image, common).map_err(|error| (error, None))?;
    let own = source::open(&given, &options.source_cx()).map_err(|error| (error, None))?;
    let stack = || {
        let opened = open_own(image, &own, &given, &options, common)?;
        let above = crate::stack::above(given.name(), opened, &options);
        Stack { file: Some(Arc::clone(&own)), ..above }.choose(&options)
    };
    stack().map_err(|error| (error, Some(own)))
}

/// Opens an image and nothing above its disk; also the file as it lies. That is opened once, however often a person
/// mistypes a key: a link may be good for one request.
///
/// # Errors
/// When the source or the image cannot be opened.
pub fn open_image(
    image: &OsStr,
    given: &Arc<Given>,
    options: &Options,
    common: &Common,
) -> Result<(Arc<dyn BlockSource>, Opened)> {
    let own = source::open(given, &options.source_cx())?;
    let opened = open_own(image, &own, given, options, common)?;
    Ok((own, opened))
}

/// The image in a file that is open.
fn open_own(
    image: &OsStr,
    own: &Arc<dyn BlockSource>,
    given: &Arc<Given>,
    options: &Options,
    common: &Common,
) -> Result<Opened> {
    unlock::with_keys(image, common, |keys| {
        let options = Options { keys: Arc::clone(keys), ..options.clone() };
        crate::stack::open_source(Arc::clone(own), Arc::clone(given), &options)
    })
}

/// `IMAGE:PATH`, `IMAGE:VOLUME:PATH`, or `IMAGE` alone, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The image as typed.
    pub image: OsString,
    /// A volume, if one is named.
    pub volume: Option<String>,
    /// The path, if one is named.
    pub path: Option<Vec<u8>>,
}

impl Target {
    /// The image's name for people: escaped, without secrets.
    #[must_use]
    pub fn shown_image(&self) -> String {
        shown(&self.image)
    }

    /// `IMAGE:PATH` for people.
    #[must_use]
    pub fn shown(&self) -> String {
        let volume = self.volume.as_ref().map(|volume| format!(":{}", escape(volume.as_bytes())));
        let path = self.path.as_ref().map(|path| format!(":{}", escape(path)));
        format!("{}{}{}", self.shown_image(), volume.unwrap_or_default(), path.unwrap_or_default())
    }

    /// The path, or the reason why the verb needs one.
    ///
    /// # Errors
    /// `Usage`.
    pub fn need_path(&self, verb: &str) -> Result<&[u8]> {
        self.path.as_deref().ok_or_else(|| {
            let error = Error::new(ErrorKind::Usage, format!("{}: no path is given", self.shown_image()));
            error.help(format!("imgmount {verb} IMAGE:/PATH, as in {}:/etc/fstab", self.shown_image()))
        })
    }

    /// Takes a typed word apart. The longest existing file wins: `a:b` is a file if there is one of that name.
    #[must_use]
    pub fn parse(typed: &OsStr) -> Self {
        let bytes = typed.as_bytes();
        let whole = Self { image: typed.to_owned(), volume: None, path: None };
        if std::path::Path::new(typed).exists() {
            return whole;
        }
        if let Some((image, path)) = windows_path(bytes) {
            return Self { image: OsString::from_vec(image.to_vec()), volume: None, path: Some(path) };
        }
        // The path part starts at ":/". The colons of a URL's scheme, login, address and port are its own.
        let own = url_server(bytes);
        let mut at = bytes.windows(2).enumerate().filter(|(_, pair)| *pair == b":/").map(|(at, _)| at);
        let split = at.find(|at| *at >= own);
        let Some(split) = split else { return whole };
        let (image, path) = bytes.split_at(split);
        let path = path.get(1..).unwrap_or_default().to_vec();
        let os = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        // "disk.img:p2:/etc": what stands between the last two colons is a volume.
        if let Some(colon) = image.iter().rposition(|byte| *byte == b':').filter(|colon| *colon >= own) {
            let (name, volume) = image.split_at(colon);
            let volume = volume
                .get(1..)
                .and_then(|volume| std::str::from_utf8(volume).ok())
                .filter(|volume| !volume.is_empty());
            if let Some(volume) = volume.filter(|_| !std::path::Path::new(&os(image)).exists()) {
                return Self { image: os(name), volume: Some(volume.to_owned()), path: Some(path) };
            }
        }
        Self { image: os(image), volume: None, path: Some(path) }
    }
}

/// Takes a verb's words apart: `IMAGE:PATH…`, or `IMAGE PATH…`, where a bare image takes the paths behind it.
#[must_use]
pub fn targets(words: &[OsString]) -> Vec<Target> {
    let mut found: Vec<Target> = Vec::new();
    // The bare image that paths belong to, and whether it has got one.
    let mut bare: Option<(OsString, bool)> = None;
    for word in words {
        if let Some((image, got)) = &mut bare
            && let Some((volume, path)) = inside(word)
        {
            if !*got {
                found.pop();
                *got = true;
            }
            found.push(Target { image: image.clone(), volume, path: Some(path) });
            continue;
        }
        let target = Target::parse(word);
        bare = target.path.is_none().then(|| (target.image.clone(), false));
        found.push(target);
    }
    found
}

/// A word behind a bare image: `/etc/fstab`, or `p2:/etc/fstab` where nothing on the host is called `p2`.
fn inside(word: &OsStr) -> Option<(Option<String>, Vec<u8>)> {
    let bytes = word.as_bytes();
    if bytes.first() == Some(&b'/') {
        return Some((None, bytes.to_vec()));
    }
    if let Some(path) = on_drive(bytes) {
        return Some((None, path));
    }
    let at = bytes.windows(2).position(|pair| pair == b":/")?;
    let (volume, path) = bytes.split_at(at);
    let volume = std::str::from_utf8(volume).ok().filter(|volume| !volume.is_empty())?;
    // A word with a dot is an image's name, also where the file is missing: then that is the complaint.
    let free = url_server(bytes) == 0 && !volume.contains('.') && !std::path::Path::new(volume).exists();
    free.then(|| (Some(volume.to_owned()), path.get(1..).unwrap_or_default().to_vec()))
}

/// `C:\Users` or `C:` as a path of a Windows guest's tree, `/C:/Users`.
fn on_drive(bytes: &[u8]) -> Option<Vec<u8>> {
    let (drive, rest) = bytes.split_at_checked(2)?;
    let is_one = matches!(drive, [letter, b':'] if letter.is_ascii_alphabetic());
    if !is_one || !matches!(rest.first(), None | Some(b'\\')) {
        return None;
    }
    let rest = rest.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte });
    let path: Vec<u8> = std::iter::once(b'/').chain(drive.iter().copied()).chain(rest).collect();
    Some(if path.len() == 3 { [path.as_slice(), b"/"].concat() } else { path })
}

/// `IMAGE:C:\Users` and `IMAGE:C:` taken apart. (`IMAGE:C:/Users` looks like a volume `C`; see [`Images::tree`].)
fn windows_path(bytes: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    let colons = bytes.iter().enumerate().filter(|(_, byte)| **byte == b':').map(|(at, _)| at);
    colons.filter(|at| *at > 0).find_map(|at| {
        let (image, rest) = bytes.split_at_checked(at)?;
        Some((image, on_drive(rest.get(1..)?)?))
    })
}

/// Images opened by a verb, each once.
#[derive(Debug)]
pub struct Images<'a> {
    common: &'a Common,
    open: Vec<(OsString, Result<Arc<Stack>>)>,
}

impl<'a> Images<'a> {
    /// None so far.
    #[must_use]
    pub const fn new(common: &'a Common) -> Self {
        Self { common, open: Vec::new() }
    }

    /// The image's tower.
    ///
    /// # Errors
    /// As [`open`].
    pub fn get(&mut self, image: &OsStr) -> Result<Arc<Stack>> {
        if let Some((_, known)) = self.open.iter().find(|(name, _)| name == image) {
            return known.clone();
        }
        let opened = open(image, self.common).map(Arc::new);
        self.open.push((image.to_owned(), opened.clone()));
        opened
    }

    /// The tree that a target's path is meant in, and the path; without one, `/`.
    ///
    /// # Errors
    /// As [`open`] and [`Stack::tree`], with the image's name in front.
    pub fn tree(&mut self, target: &Target) -> Result<(Arc<Tree>, Vec<u8>)> {
        let stack = self.get(&target.image)?;
        let path = target.path.clone().unwrap_or_else(|| b"/".to_vec());
        // "disk.img:C:/Users": a drive, where no volume has that name.
        if let Some(drive) = target.volume.as_deref().filter(|name| stack.volume(name).is_none())
            && let [letter] = drive.as_bytes()
            && letter.is_ascii_alphabetic()
            && let Ok(tree) = stack.tree(None)
            && let Some(windows) = stack.guests.first().and_then(|guest| guest.windows())
            && stack.only.is_none()
        {
            if tree.has_drive(&format!("{drive}:")) {
                return Ok((tree, [b"/", drive.as_bytes(), b":", path.as_slice()].concat()));
            }
            let drives = windows.drives.iter().map(|drive| format!("{}: ({})", drive.letter, drive.volume));
            let error = Error::new(ErrorKind::NotFound, format!("no drive {drive}:"));
            let all = drives.collect::<Vec<String>>().join(", ");
            return Err(error.help(format!("drives: {all}")).context(&stack.name));
        }
        let tree = stack.tree(target.volume.as_deref()).map_err(|error| error.context(&stack.name))?;
        Ok((tree, path))
    }

    /// The file that a target names.
    ///
    /// # Errors
    /// As [`Images::tree`]; `NotFound` when there is no such file.
    pub fn find(&mut self, target: &Target, follow: Follow) -> Result<(Arc<Tree>, Vec<u8>, Node)> {
        let (tree, path) = self.tree(target)?;
        let node = tree.resolve(&path, follow).map_err(|error| error.context(target.shown_image()))?;
        Ok((tree, path, node))
    }
}

/// How many bytes of a URL are its scheme and its server, `http://user@host:8080`; 0 if it is none.
fn url_server(bytes: &[u8]) -> usize {
    let scheme = bytes.windows(3).position(|three| three == b"://").filter(|at| {
        let scheme = bytes.get(..*at).unwrap_or_default();
        !scheme.is_empty() && scheme.iter().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(b))
    });
    let Some(server) = scheme.map(|at| at.saturating_add(3)) else { return 0 };
    let len = bytes.iter().skip(server).position(|byte| *byte == b'/');
    len.map_or(bytes.len(), |len| server.saturating_add(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(image: &str, volume: Option<&str>, path: Option<&str>) -> Target {
        Target {
            image: image.into(),
            volume: volume.map(str::to_owned),
            path: path.map(|path| path.as_bytes().to_vec()),
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!((size("64K"), size("1g"), size("7")), (Ok(65536), Ok(1 << 30), Ok(7)));
        assert!(size("1X").is_err() && size("").is_err() && size("99999999999T").is_err());
    }

    #[test]
    fn times_have_units() {
        assert_eq!(
            (duration("90"), duration("5m")),
            (Ok(Duration::from_secs(90)), Ok(Duration::from_secs(300)))
        );
        assert!(
            duration("5x").is_err() && duration("").is_err() && duration("99999999999999999999h").is_err()
        );
    }

    #[test]
    fn edits_are_counted() {
        assert_eq!((edits("chek", "check"), edits("info", "info"), edits("", "ls")), (1, 0, 2));
        assert_eq!((edits("kitten", "sitting"), edits("sl", "ls")), (3, 2));
    }

    #[test]
    fn image_and_path_split_at_the_colon_before_the_slash() {
        assert_eq!(Target::parse("d.vmdk:/etc/fstab".as_ref()), target("d.vmdk", None, Some("/etc/fstab")));
    }

    #[test]
    fn a_volume_stands_between_two_colons() {
        assert_eq!(Target::parse("d.vmdk:p2:/etc".as_ref()), target("d.vmdk", Some("p2"), Some("/etc")));
    }

    #[test]
    fn paths_stand_behind_urls_of_every_kind() {
        for image in [
            "nbd+unix:///disk?socket=/run/s",
            "nbd://h:10809/a",
            "nbd://[::1]:9/",
            "ftp://u:p@h/d.img",
            "s3://b/k:1.img",
        ] {
            let typed = format!("{image}:p2:/etc");
            assert_eq!(Target::parse(typed.as_ref()), target(image, Some("p2"), Some("/etc")));
            assert_eq!(Target::parse(image.as_ref()), target(image, None, None));
        }
    }

    #[test]
    fn a_path_of_windows_begins_with_a_drive() {
        assert_eq!(
            target("d.vmdk", None, Some("/C:/Users/x")),
            Target::parse("d.vmdk:C:\\Users\\x".as_ref())
        );
        assert_eq!(target("d.vmdk", None, Some("/d:/")), Target::parse("d.vmdk:d:".as_ref()));
        assert_eq!(target("d.vmdk", None, Some("/D:/x")), Target::parse("d.vmdk:/D:/x".as_ref()));
        assert_eq!(target("d.vmdk", Some("C"), Some("/x")), Target::parse("d.vmdk:C:/x".as_ref()));
        assert_eq!(
            target("http://h:8080/d.img", None, Some("/C:/")),
            Target::parse("http://h:8080/d.img:C:\\".as_ref())
        );
        let words = ["d.vmdk", "C:\\x"].map(OsString::from);
        assert_eq!(targets(&words), vec![target("d.vmdk", None, Some("/C:/x"))]);
        assert_eq!(target("C:\\d.vmdk", None, None), Target::parse("C:\\d.vmdk".as_ref()));
    }

    #[test]
    fn a_url_keeps_its_own_colons() {
        assert_eq!(Target::parse("http://h:8080/d.img".as_ref()), target("http://h:8080/d.img", None, None));
        assert_eq!(
            Target::parse("http://h/d.img:/etc".as_ref()),
            target("http://h/d.img", None, Some("/etc"))
        );
        assert_eq!(
            Target::parse("http://h/d.img:p1:/etc".as_ref()),
            target("http://h/d.img", Some("p1"), Some("/etc"))
        );
        assert_eq!(
            Target::parse("http://u:p@[::1]:8080/d.img:/etc".as_ref()),
            target("http://u:p@[::1]:8080/d.img", None, Some("/etc"))
        );
        assert_eq!(
            Target::parse("https://h:8080/d.img:vg0/root:/etc".as_ref()),
            target("https://h:8080/d.img", Some("vg0/root"), Some("/etc"))
        );
    }

    #[test]
    fn a_member_stands_behind_two_slashes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x.ova"), "").unwrap();
        let at = dir.path().display();
        let split = |typed: String| {
            let (archive, member) = split_member(typed.as_ref());
            (archive.into_string().unwrap(), member)
        };
        let member = |name: &str| Some(name.to_owned());
        assert_eq!(split(format!("{at}/x.ova//d.vmdk")), (format!("{at}/x.ova"), member("d.vmdk")));
        assert_eq!(split(format!("/{at}//x.ova//a//b")), (format!("/{at}//x.ova"), member("a//b")));
        assert_eq!(split(format!("{at}//x.ova")), (format!("{at}//x.ova"), None));
        assert_eq!(split("no.ova//d".to_owned()), ("no.ova".to_owned(), member("d")));
    }

    #[test]
    fn a_member_of_a_url_stands_behind_an_archives_name() {
        let split = |typed: &str| {
            let (archive, member) = split_member(typed.as_ref());
            (archive.into_string().unwrap(), member.unwrap_or_default())
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(split("http://h:1/a//x.OVA//d"), pair("http://h:1/a//x.OVA", "d"));
        assert_eq!(split("https://h/x.tar.gz//d?s=1//2"), pair("https://h/x.tar.gz?s=1//2", "d"));
        assert_eq!(split("https://h/x.ova?s=1//d"), pair("https://h/x.ova?s=1", "d"));
        assert_eq!(split("https://h/x.ova?u=http://o"), pair("https://h/x.ova?u=http://o", ""));
        assert_eq!(split("https://h/b//d.vmdk"), pair("https://h/b//d.vmdk", ""));
    }

    #[test]
    fn a_bare_image_takes_the_paths_behind_it() {
        let words = ["d.vmdk", "/etc/fstab", "p2:/b", "e.vmdk:/x"].map(OsString::from);
        let expected = vec![
            target("d.vmdk", None, Some("/etc/fstab")),
            target("d.vmdk", Some("p2"), Some("/b")),
            target("e.vmdk", None, Some("/x")),
        ];
        assert_eq!(targets(&words), expected);
    }

    #[test]
    fn bare_images_stay_bare() {
        let words = ["d.vmdk", "e.vmdk"].map(OsString::from);
        assert_eq!(targets(&words), vec![target("d.vmdk", None, None), target("e.vmdk", None, None)]);
    }
}
