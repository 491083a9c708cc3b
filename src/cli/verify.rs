//! `imgmount verify`.

#[cfg(not(feature = "second-opinion"))]
pub(super) use absent::{Args, run};
#[cfg(feature = "second-opinion")]
pub(super) use present::{Args, run};

#[cfg(not(feature = "second-opinion"))]
mod absent {
    use crate::cli::{Common, Exit};
    use crate::error::{Error, Result};
    use std::ffi::OsString;

    /// Arguments.
    #[derive(Debug, clap::Args)]
    pub(in crate::cli) struct Args {
        /// A path or URL of an image
        #[arg(value_name = "IMAGE")]
        _image: OsString,
    }

    pub(in crate::cli) fn run(_args: &Args, _common: &Common) -> Result<Exit> {
        Err(Error::unsupported("verify in this build").help("build with the cargo feature second-opinion"))
    }
}

#[cfg(feature = "second-opinion")]
mod present {
    use crate::cli::out::Tally;
    use crate::cli::{Common, Exit, out, plan, unlock};
    use crate::error::{Error, ErrorKind, Result};
    use crate::fs::State;
    use crate::host::handoff::WireKeys;
    use crate::keys::Keys;
    use crate::stack::{Options, Stack};
    use crate::text::escape;
    use crate::verify::{Event, Finding, READERS, Reader, Reads, Subject, Sums, Verdict, child, jobs};
    use serde_json::{Value, json};
    use std::ffi::{OsStr, OsString};
    use std::fmt::Write as _;
    use std::process::Command;
    use std::sync::Arc;
    use zeroize::Zeroizing;

    /// Arguments.
    #[derive(Debug, clap::Args)]
    pub(in crate::cli) struct Args {
        /// A path or URL of an image
        #[arg(value_name = "IMAGE")]
        image: OsString,
        /// Name everything that agrees, too
        #[arg(short, long)]
        all: bool,
        /// Ask only this reader (repeatable): qcow2-rs, nbd, ext4-view, ntfs
        #[arg(long, value_name = "NAME")]
        reader: Vec<String>,
        /// This is the process of one reader: its name, the subject, the disk's size
        #[arg(long, hide = true, num_args = 3, value_name = "READER SUBJECT SIZE")]
        second: Option<Vec<String>>,
    }

    pub(in crate::cli) fn run(args: &Args, common: &Common) -> Result<Exit> {
        if let Some([reader, subject, size]) = args.second.as_deref() {
            child::limit(size.parse().unwrap_or(0), common.cache);
            return work(reader, subject, args, common);
        }
        if let Some(other) =
            args.reader.iter().find(|name| READERS.iter().all(|reader| reader.name != **name))
        {
            let names: Vec<&str> = READERS.iter().map(|reader| reader.name).collect();
            let error = Error::new(ErrorKind::Usage, format!("no reader '{}'", escape(other.as_bytes())));
            return Err(error.help(format!("one of: {}", names.join(", "))));
        }
        let (given, options) = (plan::given(&args.image, common)?, plan::options(common));
        let (stack, keys) = unlock::with_keys(&args.image, common, |keys| {
            let options = Options { keys: Arc::clone(keys), ..options.clone() };
            Ok((crate::stack::open(Arc::clone(&given), &options)?, Arc::clone(keys)))
        })?;
        let mut tally = Tally::default();
        let mut opinions = Vec::new();
        let mut asked = false;
        let wanted =
            |reader: &Reader| args.reader.is_empty() || args.reader.iter().any(|name| name == reader.name);
        for (reader, subject) in jobs(&stack).into_iter().filter(|(reader, _)| wanted(reader)) {
            let opinion = ask(reader, subject, &stack, &keys, args, common)?;
            asked = true;
            tally.done();
            match opinion.result() {
                "agree" => {}
                "differ" => tally.no(),
                _ => tally.partial(),
            }
            if common.json {
                opinions.push(opinion.document());
            } else {
                out::data(&opinion.text());
            }
        }
        if !asked {
            // Nothing was compared: that is no agreement.
            tally.partial();
            out::say(common, "imgmount: no second reader knows what is in this image");
        }
        if common.json {
            out::json(&json!({ "schema": "imgmount.verify/1", "image": stack.name, "opinions": opinions }));
        }
        Ok(tally.exit())
    }

    /// What one reader said of one subject.
    struct Opinion {
        reader: &'static Reader,
        subject: String,
        findings: Vec<Finding>,
        sums: Sums,
        broke: Option<String>,
        /// What to know before taking a difference for a fault.
        note: Option<&'static str>,
    }

    const DIRTY: &str = "the file system is dirty: ours plays its journal back in memory, this reader may not, or not all of it";

    fn ask(
        reader: &'static Reader,
        subject: String,
        stack: &Stack,
        keys: &Keys,
        args: &Args,
        common: &Common,
    ) -> Result<Opinion> {
        let mut command = Command::new("/proc/self/exe");
        command
            .arg("verify")
            .arg("--second")
            .arg(reader.name)
            .arg(&subject)
            .arg(stack.disk().len().to_string());
        if args.all {
            command.arg("--all");
        }
        if let Some(format) = &common.format {
            command.arg("--format").arg(format);
        }
        if let Some(layer) = &common.layer {
            command.arg("--layer").arg(layer);
        }
        for dir in &common.allow_parent {
            command.arg("--allow-parent").arg(dir);
        }
        command.arg("--cache").arg(common.cache.to_string()).arg("--").arg(&args.image);
        let dirty =
            stack.facts().iter().any(|(volume, facts)| *volume == subject && facts.state == State::Dirty);
        let note = (dirty && reader.reads == Reads::Files).then_some(DIRTY);
        let mut opinion =
            Opinion { reader, subject, findings: Vec::new(), sums: Sums::default(), broke: None, note };
        let keys = serde_json::to_vec(&WireKeys::from(keys)).map_err(internal)?;
        child::watch(command, &Zeroizing::new(keys), &mut |event| match event {
            Event::Beat => {}
            Event::Found(finding) => opinion.findings.push(finding),
            Event::End(sums) => opinion.sums = sums,
            Event::Failed { reason } => opinion.broke = Some(reason),
        })?;
        Ok(opinion)
    }

    impl Opinion {
        fn any(&self, verdict: Verdict) -> bool {
            self.findings.iter().any(|finding| finding.verdict == verdict)
        }

        /// The worst that was found, in a word.
        fn result(&self) -> &'static str {
            match &self.broke {
                _ if self.any(Verdict::Differ) => "differ",
                Some(_) => "other-cannot",
                None if self.any(Verdict::OtherCannot) || self.any(Verdict::WeCannot) => "partly",
                None if self.any(Verdict::OtherOnly) => "other-only",
                None => "agree",
            }
        }

        fn document(&self) -> Value {
            json!({
                "reader": self.reader.name,
                "about": self.reader.about,
                "subject": self.subject,
                "result": self.result(),
                "reason": self.broke,
                "note": self.note,
                "files": self.sums.files,
                "bytes": self.sums.bytes,
                "findings": self.findings,
                "findings_left_out": self.sums.more,
            })
        }

        fn text(&self) -> String {
            let verdict = match (self.result(), &self.broke) {
                ("differ", _) => "DIFFER".to_owned(),
                (_, Some(reason)) => format!("the other cannot read it: {reason}"),
                ("partly", _) => "agree, but for what could not be compared".to_owned(),
                ("other-only", _) => "the other only".to_owned(),
                _ => "agree".to_owned(),
            };
            let mut text = format!("{:<10} {:<6} {verdict}", self.reader.name, self.subject);
            if self.sums.files > 0 {
                let _ = write!(text, ", {} files", self.sums.files);
            }
            if self.sums.bytes > 0 {
                let _ = write!(text, ", {} bytes compared", self.sums.bytes);
            }
            text.push('\n');
            let broke = self.broke.as_deref().filter(|_| self.result() == "differ");
            for line in broke.into_iter().chain(self.note) {
                let _ = writeln!(text, "    {line}");
            }
            for finding in &self.findings {
                let _ = writeln!(text, "    {}", line(finding));
            }
            if self.sums.more > 0 {
                let _ = writeln!(text, "    and {} more", self.sums.more);
            }
            text
        }
    }

    fn line(finding: &Finding) -> String {
        use crate::text::escape;
        let path = finding.path.as_ref().map(|path| format!("{}: ", escape(path.as_bytes())));
        let range = match (finding.start, finding.length) {
            (Some(start), Some(length)) => format!("bytes {start}..{}: ", start.saturating_add(length)),
            _ => String::new(),
        };
        let reason = if finding.reason.is_empty() {
            String::new()
        } else {
            format!(": {}", escape(finding.reason.as_bytes()))
        };
        format!("{}{range}{}{reason}", path.unwrap_or_default(), finding.verdict.words())
    }

    fn internal(error: serde_json::Error) -> Error {
        Error::new(ErrorKind::Internal, "a message between the two processes").caused_by(error)
    }

    /// The child: one reader, one subject, keys on standard input, events on standard output.
    fn work(reader: &str, subject: &str, args: &Args, common: &Common) -> Result<Exit> {
        let given = plan::given(OsStr::new(&args.image), common)?;
        let keys: WireKeys = serde_json::from_reader(std::io::stdin()).map_err(internal)?;
        let options = Options { keys: Arc::new(keys.try_into()?), ..plan::options(common) };
        let stack = crate::stack::open(Arc::clone(&given), &options)?;
        let subject = Subject { stack: &stack, given: &given, options: &options, name: subject };
        child::work(reader, &subject, args.all, &mut |event| {
            if child::write(&event).is_err() {
                std::process::exit(0);
            }
        })?;
        // A thread of the other reader may still be at it: leave without asking it.
        out::flush()?;
        std::process::exit(0);
    }
}
