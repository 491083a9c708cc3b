//! Columns of a terminal: how many a text takes, and where it may be broken. Chinese characters take two, and a line may
//! end behind each of them.

/// Characters that take two columns: East Asian Width W and F (Unicode Standard Annex 11), the blocks in use.
const WIDE: &[(u32, u32)] = &[
    (0x1100, 0x115f),
    (0x231a, 0x231b),
    (0x2e80, 0x303e),
    (0x3041, 0x33ff),
    (0x3400, 0x4dbf),
    (0x4e00, 0x9fff),
    (0xa000, 0xa4cf),
    (0xa960, 0xa97f),
    (0xac00, 0xd7a3),
    (0xf900, 0xfaff),
    (0xfe10, 0xfe19),
    (0xfe30, 0xfe6f),
    (0xff01, 0xff60),
    (0xffe0, 0xffe6),
    (0x1f300, 0x1f64f),
    (0x1f680, 0x1f6ff),
    (0x1f900, 0x1f9ff),
    (0x20000, 0x3fffd),
];

/// Characters that stand on the one before.
const NONE: &[(u32, u32)] =
    &[(0x0300, 0x036f), (0x0483, 0x0489), (0x1ab0, 0x1aff), (0x20d0, 0x20ff), (0xfe00, 0xfe0f)];

/// Punctuation that no line begins with.
const CLOSING: &str = "，。、；：！？）》」』】”’％…";
/// Punctuation that no line ends with.
const OPENING: &str = "（《「『【“‘";

fn is_in(c: char, ranges: &[(u32, u32)]) -> bool {
    ranges.iter().any(|(first, last)| (*first..=*last).contains(&u32::from(c)))
}

/// Columns of a character that is no control character.
fn of(c: char) -> usize {
    if is_in(c, NONE) {
        0
    } else if is_in(c, WIDE) {
        2
    } else {
        1
    }
}

/// Columns that a text takes.
#[must_use]
pub fn width(text: &str) -> usize {
    text.chars().map(of).sum()
}

/// The text with spaces behind it up to a width.
#[must_use]
pub fn pad(text: &str, to: usize) -> String {
    let spaces = " ".repeat(to.saturating_sub(width(text)));
    format!("{text}{spaces}")
}

/// As much of the text as fits.
#[must_use]
pub fn cut(text: &str, to: usize) -> String {
    if width(text) <= to {
        return text.to_owned();
    }
    let mut cut = String::new();
    for c in text.chars() {
        if width(&cut).saturating_add(of(c)) >= to {
            break;
        }
        cut.push(c);
    }
    format!("{cut}~")
}

/// Pieces that a line is not broken within, each with the number of spaces before it.
fn pieces(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    let mut before: Option<char> = None;
    let mut spaces = 0_usize;
    for c in text.chars() {
        if c.is_whitespace() {
            spaces = spaces.saturating_add(1);
            before = None;
            continue;
        }
        let is_free = before.is_some_and(|before| of(before) == 2 || of(c) == 2)
            && !CLOSING.contains(c)
            && before.is_none_or(|before| !OPENING.contains(before));
        match found.last_mut() {
            Some((_, piece)) if before.is_some() && !is_free => piece.push(c),
            _ => found.push((spaces, c.to_string())),
        }
        spaces = 0;
        before = Some(c);
    }
    found
}

/// Lines of at most `to` columns, but for words that are longer by themselves.
#[must_use]
pub fn wrap(text: &str, to: usize) -> Vec<String> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (spaces, piece) in pieces(text) {
        let more = spaces.saturating_add(width(&piece));
        match lines.last_mut() {
            Some((columns, line)) if columns.saturating_add(more) <= to => {
                *columns = columns.saturating_add(more);
                line.push_str(&" ".repeat(spaces));
                line.push_str(&piece);
            }
            _ => lines.push((width(&piece), piece)),
        }
    }
    lines.into_iter().map(|(_, line)| line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chinese_takes_two_columns() {
        // As `wcswidth` of glibc says.
        assert_eq!(
            (width("镜像 ok"), width("e\u{301}"), pad("中", 4), cut("中文字", 5)),
            (7, 1, "中  ".into(), "中文~".into())
        );
    }

    #[test]
    fn lines_break_between_words_and_between_chinese_characters() {
        assert_eq!(wrap("the default kernel", 11), ["the default", "kernel"]);
        assert_eq!(wrap("缺少 virtio_blk 驱动", 10), ["缺少", "virtio_blk", "驱动"]);
        assert_eq!(wrap("内核缺少驱动", 6), ["内核缺", "少驱动"]);
    }

    #[test]
    fn no_line_begins_with_a_closing_mark() {
        for to in 2..20 {
            for line in wrap("默认内核（6.1）的 initramfs 中缺少 virtio_blk，系统将找不到磁盘。", to)
            {
                let first = line.chars().next().unwrap();
                assert!(
                    !CLOSING.contains(first) && !OPENING.contains(line.chars().last().unwrap()),
                    "{to}: {line}"
                );
            }
        }
    }

    #[test]
    fn nothing_is_lost_by_wrapping() {
        let text = "a  b 中文 c，d";
        for to in 1..30 {
            let joined: String = wrap(text, to).concat().split_whitespace().collect();
            assert_eq!(joined, "ab中文c，d");
        }
    }
}
