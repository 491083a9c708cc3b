//! Lines of `fstab` as the rules of mounts look at them: sorted by whether their device is there, and how to switch one off.

use crate::check::{Subject, Words, words};
use crate::guest::Guest;
use crate::guest::fstab::Line;
use crate::guest::names::Found;
use crate::text::escape;

/// Lines by what became of their devices.
#[derive(Default)]
pub(super) struct Sorted<'a> {
    /// Their devices are in the image.
    pub(super) present: Vec<&'a Line>,
    /// Their devices are not.
    pub(super) absent: Vec<&'a Line>,
    /// It cannot be said, and why.
    pub(super) unsure: Vec<String>,
}

/// Looks every line's device up.
pub(super) fn sort<'a>(
    guest: &Guest,
    subject: &Subject<'_>,
    lines: impl Iterator<Item = &'a Line>,
) -> Sorted<'a> {
    let mut sorted = Sorted::default();
    for line in lines {
        match guest.find_device(&line.spec(), &subject.stack.devices) {
            Found::Device(_) => sorted.present.push(line),
            Found::Absent => sorted.absent.push(line),
            Found::Unsure(why) => sorted.unsure.push(format!("{}: {why}", escape(&line.spec))),
        }
    }
    sorted
}

/// `UUID=… on /data (/etc/fstab line 3)`, one after the other.
pub(super) fn list(lines: &[&Line]) -> Words {
    let join = |on: &str, at: &dyn Fn(&Line) -> String| {
        let name = |line: &&Line| format!("{}{on}{}{}", escape(&line.spec), escape(&line.dir), at(line));
        lines.iter().map(name).collect::<Vec<_>>().join(", ")
    };
    Words {
        en: join(" on ", &|line| format!(" ({})", line.place())),
        zh: join(" 挂载到 ", &|line| match line.evidence.line {
            Some(number) => format!("（/etc/fstab 第 {number} 行）"),
            None => format!("（{}）", line.place()),
        }),
    }
}

/// The command that comments the lines out.
pub(super) fn comment_out(lines: &[&Line]) -> String {
    let numbers = lines.iter().filter_map(|line| line.evidence.line);
    let each: Vec<String> = numbers.map(|number| format!("{number}s/^/#/")).collect();
    format!("sed -i '{}' /etc/fstab", each.join(";"))
}

/// How to take the lines out, or to keep them without stopping the boot.
pub(super) fn switch_off(lines: &[&Line]) -> Words {
    let command = comment_out(lines);
    words!(
        "comment them out: {command}; or keep them with nofail added to the options",
        "注释掉这些行：{command}；如需保留，请在挂载选项中加上 nofail"
    )
}
