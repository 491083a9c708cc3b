//! The command line: one file a verb. `main` parses, runs the verb, and turns its end into an exit code.

use crate::check::Lang;
use crate::error::{Error, ErrorKind, Result};
use crate::keys::Keys;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

mod content;
mod entry;
mod metrics;
pub mod out;
pub mod plan;
pub mod unlock;

/// Declares the verbs once: the module, the clap variant and the dispatch.
macro_rules! verbs {
    ($($(#[$meta:meta])* $variant:ident => $module:ident),* $(,)?) => {
        $(mod $module;)*

        /// What to do. Without a verb, IMAGE is mounted on MOUNTPOINT.
        #[derive(Debug, Subcommand)]
        enum Verb { $($(#[$meta])* $variant($module::Args)),* }

        impl Verb {
            fn run(&self, common: &Common) -> Result<Exit> {
                match self { $(Self::$variant(args) => $module::run(args, common)),* }
            }
        }
    };
}

verbs! {
    /// Mount an image's files (the default command)
    Mount => mount,
    /// Unmount, and wait until the image is released
    #[command(visible_alias = "umount")]
    Unmount => unmount,
    /// Show container, partitions, file systems and operating systems
    Info => info,
    /// Would a cloud's private-image import accept it?
    Check => check,
    /// What keeps many images out, cause by cause
    Report => report,
    /// Print the JSON schema of a document
    Schema => schema,
    /// What a rule of check asks, or what a cloud's code means, at length
    Explain => explain,
    /// Serve the disk and its partitions over NBD
    Serve => serve,
    /// List the mounts and servers that run
    List => list,
    /// Show what a mount or a server has read and answered
    Stats => stats,
    /// List a directory of the guest
    Ls => ls,
    /// List everything below a directory of the guest
    Find => find,
    /// Print files of the guest
    Cat => cat,
    /// Copy files out of the guest
    Cp => cp,
    /// Show what is known about files of the guest
    Stat => stat,
    /// Print SHA-256 sums of the disk, the container or guest files
    Hash => hash,
    /// Show where the bytes of the disk or of a file lie
    Map => map,
    /// Read everything a second time through independent readers, and compare
    Verify => verify,
    /// Show what this host can do, and the one line that fixes each gap
    Doctor => doctor,
    /// A tour on samples embedded in the program
    Demo => demo,
    /// Print a shell's completion script
    Completions => completions,
    /// Write the man pages of all verbs into a directory
    #[command(hide = true)]
    Man => man,
    /// The process that parses, started by mount and serve
    #[command(hide = true, name = "internal-worker")]
    Worker => worker,
}

/// Look into any virtual disk image, read-only, without converting it.
#[derive(Debug, Parser)]
#[command(
    name = "imgmount",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "IMAGE is a path or a URL; for verbs, IMAGE:PATH names a file of the guest. IMAGE//MEMBER is one disk of \
                  an OVA, an OVF or a tar archive; without it, all of them: disk2 is the second disk, disk2/p1 its first \
                  partition. See man imgmount."
)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    mount: mount::Args,
}

/// Options of every verb.
#[derive(Clone, Debug, Args, serde::Serialize, serde::Deserialize)]
pub struct Common {
    /// The image's format, instead of finding it out
    #[arg(long, value_name = "FORMAT", global = true, env = "IMGMOUNT_FORMAT", help_heading = "Image")]
    pub format: Option<String>,
    /// The layer to read: a backing file or parent, a snapshot; by its number in info's list, its name or its id
    #[arg(long, value_name = "N|NAME", global = true, env = "IMGMOUNT_LAYER", help_heading = "Image")]
    pub layer: Option<String>,
    /// The operating system, where there are several: its number in info's list, its volume or its name
    #[arg(long, value_name = "N|NAME", global = true, env = "IMGMOUNT_OS", help_heading = "Image")]
    pub os: Option<String>,
    /// The files of this volume alone, without the guest that they belong to; of a btrfs with all subvolumes
    #[arg(
        long,
        value_name = "VOLUME",
        global = true,
        env = "IMGMOUNT_VOLUME",
        conflicts_with = "os",
        help_heading = "Image"
    )]
    pub volume: Option<String>,
    /// A journal that waits: play it back in memory, as the kernel would, or show what lies on the disk
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        global = true,
        default_value_t,
        env = "IMGMOUNT_JOURNAL",
        help_heading = "Image"
    )]
    pub journal: Journal,
    /// List the files in which a file system keeps itself too: $MFT and its like of NTFS
    #[arg(long, global = true, env = "IMGMOUNT_SHOW_META", value_parser = plan::yes_or_no(), help_heading = "Image")]
    pub show_meta: bool,
    /// Let the image open files beneath DIR that it names: backing files, parents (repeatable)
    #[arg(long, value_name = "DIR", global = true, env = "IMGMOUNT_ALLOW_PARENT", help_heading = "Image")]
    pub allow_parent: Vec<std::path::PathBuf>,
    /// What opens what is locked: VOL:file:FILE (as it is; should that not fit, without a newline at its end) or VOL:env:VARIABLE; VOL is disk, a volume, or * for anything; for BitLocker a password, a recovery password or a .BEK file (repeatable) [default: asked for on a terminal]
    #[arg(
        long,
        value_name = "VOL:HOW:NAME",
        global = true,
        env = "IMGMOUNT_KEY",
        hide_env_values = true,
        help_heading = "Image"
    )]
    #[serde(skip)]
    pub key: Vec<String>,
    /// Read a key for whatever is locked from this descriptor, up to its end
    #[arg(long, value_name = "N", global = true, env = "IMGMOUNT_KEY_FD", help_heading = "Image")]
    #[serde(skip)]
    pub key_fd: Option<u32>,
    /// The keys themselves, once they were read.
    #[arg(skip)]
    #[serde(skip)]
    pub keys: Arc<Keys>,
    /// Memory for unpacked and remote blocks: 64M, 1G, 0
    #[arg(long, value_name = "SIZE", global = true, env = "IMGMOUNT_CACHE", default_value = "256M", value_parser = plan::size, help_heading = "Image")]
    pub cache: u64,
    /// Read a remote image at most so far ahead; 0 for not at all [default: what the line bears]
    #[arg(long, value_name = "SIZE", global = true, env = "IMGMOUNT_READAHEAD", value_parser = plan::size, help_heading = "Remote images")]
    pub readahead: Option<u64>,
    /// Requests to one remote image at a time
    #[arg(long, value_name = "N", global = true, env = "IMGMOUNT_CONNECTIONS", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256), help_heading = "Remote images")]
    pub connections: u16,
    /// Keep blocks of remote images in DIR for the next run; those of an image whose server names its version (ETag, or an old Last-Modified)
    #[arg(
        long,
        value_name = "DIR",
        global = true,
        env = "IMGMOUNT_CACHE_DIR",
        help_heading = "Remote images"
    )]
    pub cache_dir: Option<std::path::PathBuf>,
    /// What the cache directory may take, by all processes together; what was not used for longest goes first
    #[arg(long, value_name = "SIZE", global = true, env = "IMGMOUNT_CACHE_DIR_SIZE", default_value = "10G", value_parser = plan::cache_dir_size, help_heading = "Remote images")]
    pub cache_dir_size: u64,
    /// Fetch a remote image by one request from start to end, and unpack what cannot be read in place, into a temporary file in DIR [default: the cache directory, $TMPDIR or /var/tmp]
    #[arg(long, value_name = "DIR", global = true, env = "IMGMOUNT_SPOOL", num_args = 0..=1, require_equals = true, default_missing_value = "", help_heading = "Remote images")]
    pub spool: Option<OsString>,
    /// When a signed link has expired, run CMD by sh and go on with the URL it prints: the same object, named without its signature by $IMGMOUNT_OBJECT
    #[arg(
        long,
        value_name = "CMD",
        global = true,
        env = "IMGMOUNT_URL_COMMAND",
        hide_env_values = true,
        help_heading = "Remote images"
    )]
    pub url_command: Option<String>,
    /// Answer in JSON
    #[arg(long, global = true, env = "IMGMOUNT_JSON", value_parser = plan::yes_or_no(), help_heading = "Output")]
    pub json: bool,
    /// The language of reports; auto asks $LC_ALL, $LC_MESSAGES and $LANG
    #[arg(
        long,
        value_enum,
        value_name = "LANG",
        global = true,
        default_value_t,
        env = "IMGMOUNT_LANG",
        help_heading = "Output"
    )]
    pub lang: Tongue,
    /// Say more on stderr (-vv: debug)
    #[arg(short, long, action = clap::ArgAction::Count, global = true, env = "IMGMOUNT_VERBOSE", help_heading = "Output")]
    pub verbose: u8,
    /// Say nothing but errors
    #[arg(short, long, global = true, env = "IMGMOUNT_QUIET", value_parser = plan::yes_or_no(), help_heading = "Output")]
    pub quiet: bool,
}

/// `--journal`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Journal {
    /// Played back in memory: what the kernel shows after mounting
    #[default]
    Replay,
    /// Left alone: what lies on the disk
    Ignore,
}

impl From<Journal> for crate::fs::Journal {
    fn from(journal: Journal) -> Self {
        match journal {
            Journal::Replay => Self::Replay,
            Journal::Ignore => Self::Ignore,
        }
    }
}

/// `--lang`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Tongue {
    /// What the locale says
    #[default]
    Auto,
    /// English
    En,
    /// Chinese
    Zh,
}

impl From<Tongue> for Lang {
    fn from(tongue: Tongue) -> Self {
        match tongue {
            Tongue::En => Self::En,
            Tongue::Zh => Self::Zh,
            Tongue::Auto => {
                let names =
                    ["LC_ALL", "LC_MESSAGES", "LANG"].map(|name| std::env::var(name).unwrap_or_default());
                Self::of_locale(names.iter().map(String::as_str))
            }
        }
    }
}

/// How a verb ended. Codes are those of the table in `man imgmount`, "EXIT STATUS".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    /// Done; the answer is yes.
    pub const OK: Self = Self(0);
    /// The answer is no.
    pub const NO: Self = Self(1);
    /// Answered, but something could not be read or decided.
    pub const PARTIAL: Self = Self(6);

    /// The code of an error.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        Self(match error.kind() {
            ErrorKind::NotFound => 1,
            ErrorKind::Usage => 2,
            ErrorKind::Corrupt
            | ErrorKind::NotAnImage
            | ErrorKind::Unsupported
            | ErrorKind::Ambiguous
            | ErrorKind::OutOfRange
            | ErrorKind::ExternalRef
            | ErrorKind::Denied
            | ErrorKind::Encrypted
            | ErrorKind::Limit => 3,
            ErrorKind::Source | ErrorKind::Io | ErrorKind::Changed => 4,
            ErrorKind::Host => 5,
            ErrorKind::Internal => 70,
        })
    }
}

/// The program.
#[must_use]
pub fn main() -> ExitCode {
    // Started again through /proc/self/exe, we would be "exe" to ps, pgrep and those who name a mount's holders.
    let _ = rustix::thread::set_name(c"imgmount");
    if worker::is_asked_for() {
        return ExitCode::from(worker::main().0);
    }
    let exit = run();
    let is_helper = mount::is_helper(std::env::args_os().next().as_ref());
    ExitCode::from(if is_helper { mount::mount_code(exit) } else { exit.0 })
}

/// What was typed, in the words and the order that clap reads.
fn words(command: &clap::Command) -> Vec<OsString> {
    let typed: Vec<OsString> = std::env::args_os().collect();
    // mount(8) names no verb.
    let typed = if mount::is_helper(typed.first()) { typed } else { verb_first(typed, command) };
    mount::translate(typed, std::env::var_os(mount::OPTIONS), command)
}

/// Parses, and runs the verb.
fn run() -> Exit {
    // Put together once: it takes as long as to open an image.
    let command = command();
    let words = words(&command);
    let matches = match command.try_get_matches_from(words) {
        Ok(matches) => matches,
        Err(error) => {
            // clap prints help and version to stdout with code 0, complaints to stderr with code 2.
            drop(error.print());
            return Exit(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let mut cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => {
            drop(error.print());
            return Exit(2);
        }
    };
    out::init(&cli.common);
    let result = read_keys(&mut cli.common).and_then(|()| match &cli.verb {
        Some(verb) => verb.run(&cli.common),
        None => mistyped(&matches).map_or_else(|| mount::run(&cli.mount, &cli.common), Err),
    });
    ended(result, &cli.common)
}

/// The end as it is told to whoever started us, after the error was told to people.
fn ended(result: Result<Exit>, common: &Common) -> Exit {
    result.and_then(|exit| out::flush().map(|()| exit)).unwrap_or_else(|error| {
        out::report(&error, common);
        Exit::of(&error)
    })
}

/// Set for a supervisor in the background, whose standard input is then the way back to the user's command.
const IN_BACKGROUND: &str = "IMGMOUNT_IN_BACKGROUND";

/// Reads the keys that the options name, in the first process alone: a pipe can be read only once.
fn read_keys(common: &mut Common) -> Result<()> {
    if std::env::var_os(IN_BACKGROUND).is_none() {
        common.keys = Arc::new(unlock::resolve(common)?);
    }
    Ok(())
}

/// Moves a verb in front of the options that stand before it: `imgmount -q unmount DIR`. clap knows verbs in first place
/// only, because an IMAGE may stand there, too.
fn verb_first(mut words: Vec<OsString>, command: &clap::Command) -> Vec<OsString> {
    let takes_value = |word: &str| {
        let known = command.get_arguments().find(|arg| {
            let long = word.strip_prefix("--").is_some_and(|name| arg.get_long() == Some(name));
            long || (word.len() == 2
                && word.strip_prefix('-').and_then(|c| c.chars().next()) == arg.get_short())
        });
        known.is_some_and(|arg| arg.get_action().takes_values())
    };
    let mut at = 1;
    while let Some(word) = words.get(at).and_then(|word| word.to_str()) {
        if !word.starts_with('-') {
            if at > 1 && command.find_subcommand(word).is_some() {
                let verb = words.remove(at);
                words.insert(1, verb);
            }
            break;
        }
        if word == "--" {
            break;
        }
        at = at.saturating_add(if takes_value(word) { 2 } else { 1 });
    }
    words
}

/// `imgmount chek x` reads as "mount the image chek on x". If nothing is called that and a verb nearly is, it was meant.
fn mistyped(matches: &clap::ArgMatches) -> Option<Error> {
    let mut words = matches.try_get_raw("image").ok()??;
    let word = words.next()?.to_str()?;
    if word.contains(['/', '.', ':']) || std::path::Path::new(word).exists() {
        return None;
    }
    let command = command();
    let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    let near = verbs
        .flat_map(|verb| verb.get_all_aliases().chain([verb.get_name()]))
        .map(|name| (plan::edits(word, name), name))
        .min()
        .filter(|(edits, _)| *edits <= 2 && *edits < word.chars().count())?;
    let shown = crate::text::escape(word.as_bytes());
    let error = Error::new(
        ErrorKind::Usage,
        format!("no image named '{shown}'; did you mean 'imgmount {}'?", near.1),
    );
    Some(error.help(format!("an image that is called so: ./{shown}")))
}

/// The command with every verb, for parsing, man pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered(line: &str) -> String {
        let words = verb_first(line.split(' ').map(OsString::from).collect(), &command());
        words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn options_may_stand_before_the_verb() {
        assert_eq!(ordered("imgmount -q unmount /mnt"), "imgmount unmount -q /mnt");
        assert_eq!(ordered("imgmount --format raw --json info a"), "imgmount info --format raw --json a");
        assert_eq!(ordered("imgmount --cache=1G cat a:/b"), "imgmount cat --cache=1G a:/b");
    }

    #[test]
    fn an_image_before_a_verbs_name_stays_an_image() {
        assert_eq!(ordered("imgmount -q disk.vmdk info"), "imgmount -q disk.vmdk info");
        assert_eq!(ordered("imgmount --format info disk"), "imgmount --format info disk");
    }

    #[test]
    fn the_command_is_well_formed() {
        command().debug_assert();
    }
}
