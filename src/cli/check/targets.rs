//! Where reports go: `--report FORM[=FILE]`, several at once, one of them to standard output.

use super::super::{Common, out};
use crate::check::Lang;
use crate::check::profile::Level;
use crate::check::report::{FORMS, Form, Report, Style, Write};
use crate::error::{Error, ErrorKind, Result};
use std::fs::File;
use std::io::{IsTerminal as _, Write as _};

/// Columns where nobody says how many there are.
const COLUMNS: usize = 100;
/// Fewest columns that a report is made for, and most: longer lines are hard to read.
const LEAST: usize = 40;
const MOST: usize = 120;

/// A report and where it goes.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) form: &'static Form,
    /// Nothing for standard output.
    file: Option<(String, File)>,
    pub(super) style: Style,
}

impl Target {
    pub(super) const fn is_stdout(&self) -> bool {
        self.file.is_none()
    }

    /// Must every report be kept until the end?
    pub(super) const fn is_whole(&self) -> bool {
        matches!(self.form.write, Write::Whole(_))
    }

    /// Writes the reports of an image, if this form is written image by image.
    pub(super) fn each(&mut self, reports: &[Report]) -> Result<()> {
        match self.form.write {
            Write::Each(write) => self.put(&write(reports, &self.style)),
            Write::Whole(_) => Ok(()),
        }
    }

    /// Writes all of it, if this form is written at the end.
    pub(super) fn whole(&mut self, reports: &[Report]) -> Result<()> {
        match self.form.write {
            Write::Whole(write) => self.put(&write(reports, &self.style)),
            Write::Each(_) => Ok(()),
        }
    }

    /// Writes some of it.
    pub(super) fn put(&mut self, text: &str) -> Result<()> {
        match &mut self.file {
            Some((name, file)) => file.write_all(text.as_bytes()).map_err(|error| lost(name, error)),
            None => {
                out::data(text);
                Ok(())
            }
        }
    }
}

fn lost(file: &str, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Host, format!("the report cannot be written to {file}")).caused_by(error)
}

/// What `--report` words mean; `--json` is one of them. Files are made at once: a check of many images should not end
/// with a report that cannot be written.
pub(super) fn open(
    words: &[String],
    all: bool,
    fail_on: Option<Level>,
    common: &Common,
) -> Result<Vec<Target>> {
    let mut named = Vec::new();
    for word in words {
        let (form, file) = match word.split_once('=') {
            Some((form, file)) => (form, Some(file)),
            None => (word.as_str(), None),
        };
        let form = Form::by_name(form).ok_or_else(|| {
            let names: Vec<&str> = FORMS.iter().map(|form| form.name).collect();
            Error::new(ErrorKind::Usage, format!("--report {word}: no such report"))
                .help(format!("one of: {}; each may have =FILE", names.join(", ")))
        })?;
        named.push((form, file));
    }
    match named.iter().filter(|(_, file)| file.is_none()).count() {
        0 => {
            let form = Form::by_name(if common.json { "json" } else { "text" });
            named.push((form.expect("both forms are in the list"), None));
        }
        1 => {}
        _ => {
            return Err(Error::new(ErrorKind::Usage, "several reports to stdout")
                .help("give all but one a file: --report json=FILE"));
        }
    }
    let mut targets = Vec::new();
    for (form, file) in named {
        let file = match file {
            None => None,
            Some(name) => Some((name.to_owned(), File::create(name).map_err(|error| lost(name, error))?)),
        };
        let style = Style { all, fail_on, ..style(file.is_none(), common) };
        targets.push(Target { form, file, style });
    }
    Ok(targets)
}

/// How text looks: on standard output as its terminal wants it, in a file plain.
pub(in super::super) fn style(is_stdout: bool, common: &Common) -> Style {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
    let is_terminal = is_stdout && std::io::stdout().is_terminal();
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colour = !no_colour && (is_terminal || (is_stdout && is_set("CLICOLOR_FORCE")));
    let columns = is_terminal.then(columns).flatten().unwrap_or(COLUMNS);
    Style {
        colour,
        ascii: is_ascii(),
        lang: Lang::from(common.lang),
        width: columns.clamp(LEAST, MOST),
        ..Style::default()
    }
}

/// Columns of the terminal.
fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Does the locale's character set hold ASCII only? Where nothing is said, nothing is known against UTF-8.
fn is_ascii() -> bool {
    let names = ["LC_ALL", "LC_CTYPE", "LANG"].map(|name| std::env::var(name).unwrap_or_default());
    let name = names.iter().find(|name| !name.is_empty()).map(|name| name.to_ascii_uppercase());
    name.is_some_and(|name| !name.contains("UTF-8") && !name.contains("UTF8"))
}
