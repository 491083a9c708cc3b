//! GRUB's shell, as far as a menu needs it (GNU GRUB Manual, "Writing full configuration files directly"): the words of a
//! line, the values of variables, and the branches of `if`. Nothing is run: a value or a condition that is not known from
//! `grubenv` and the script's own `set` stays unknown.

use std::collections::BTreeMap;

/// Variables with their values.
pub(super) type Environment = BTreeMap<Vec<u8>, Vec<u8>>;

/// What only `grubenv` sets before the script does: without it there, it is empty.
const FROM_ENVIRONMENT: &[&[u8]] = &[
    b"next_entry",
    b"saved_entry",
    b"prev_entry",
    b"prev_saved_entry",
    b"boot_once",
    b"boot_counter",
    b"boot_success",
    b"boot_indeterminate",
    b"initrdfail",
    b"recordfail",
    b"kernelopts",
];

/// The words of a line; quotes and backslashes as in GRUB's shell; a `#` at the start of a word begins a comment. The
/// semicolon between two commands is a word of its own.
pub(super) fn words(line: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (Some(open), _) if open == byte => quote = None,
            (Some(b'"') | None, b'\\') => word.get_or_insert_default().extend(bytes.next()),
            (Some(_), _) => word.get_or_insert_default().push(byte),
            (None, b'"' | b'\'') => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (None, b'#') if word.is_none() => break,
            (None, b' ' | b'\t') => words.extend(word.take()),
            (None, b';') => {
                words.extend(word.take());
                words.push(b";".to_vec());
            }
            (None, _) => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    words
}

/// The variables that the script has set so far.
#[derive(Default)]
pub(super) struct Values(BTreeMap<Vec<u8>, Option<Vec<u8>>>);

impl Values {
    /// Those that `grubenv` sets.
    pub(super) fn of(environment: &Environment) -> Self {
        Self(environment.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect())
    }

    /// Sets a variable, to `None` when its value is not known.
    pub(super) fn set(&mut self, name: &[u8], value: Option<Vec<u8>>) {
        self.0.insert(name.to_vec(), value);
    }

    /// Those whose value is known.
    pub(super) fn known(&self) -> Environment {
        self.0.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect()
    }

    /// A word with the values of its variables; `None` if one is not known.
    pub(super) fn expand(&self, word: &[u8]) -> Option<Vec<u8>> {
        let (mut out, mut rest) = (Vec::new(), word);
        while let Some(at) = rest.iter().position(|byte| *byte == b'$') {
            let (before, after) = rest.split_at_checked(at)?;
            out.extend_from_slice(before);
            let after = after.get(1..)?;
            let (name, behind) = match after.strip_prefix(b"{") {
                Some(inner) => {
                    let end = inner.iter().position(|byte| *byte == b'}')?;
                    (inner.get(..end)?, inner.get(end.saturating_add(1)..)?)
                }
                None => {
                    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
                    let end = after.iter().position(|byte| !is_name(byte)).unwrap_or(after.len());
                    after.split_at_checked(end)?
                }
            };
            match self.0.get(name) {
                Some(value) => out.extend_from_slice(value.as_ref()?),
                None if FROM_ENVIRONMENT.contains(&name) => {}
                None => return None,
            }
            rest = behind;
        }
        out.extend_from_slice(rest);
        Some(out)
    }

    /// Does a condition hold: `[ "${next_entry}" ]`, `[ -n "$a" -a "$b" = "0" ]`?
    fn holds(&self, condition: &[Vec<u8>]) -> Option<bool> {
        let inner = condition.strip_prefix(&[b"[".to_vec()][..])?.strip_suffix(&[b"]".to_vec()][..])?;
        let mut any = Some(false);
        for group in inner.split(|word| word == b"-o") {
            let mut all = Some(true);
            for test in group.split(|word| word == b"-a") {
                all = match (all, self.test(test)) {
                    (Some(false), _) | (_, Some(false)) => Some(false),
                    (Some(true), Some(true)) => Some(true),
                    _ => None,
                };
            }
            any = match (any, all) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            };
        }
        any
    }

    fn test(&self, words: &[Vec<u8>]) -> Option<bool> {
        match words {
            [word] => Some(!self.expand(word)?.is_empty()),
            [how, word] if how == b"-n" => Some(!self.expand(word)?.is_empty()),
            [how, word] if how == b"-z" => Some(self.expand(word)?.is_empty()),
            [one, how, other] if how == b"=" || how == b"==" => {
                Some(self.expand(one)? == self.expand(other)?)
            }
            [one, how, other] if how == b"!=" => Some(self.expand(one)? != self.expand(other)?),
            _ => None,
        }
    }
}

/// The `if` and its like that a line stands in.
#[derive(Default)]
pub(super) struct Branches(Vec<Branch>);

struct Branch {
    /// Is this branch taken?
    holds: Option<bool>,
    /// Was one before it?
    was: Option<bool>,
}

impl Branches {
    /// Does everything hold that the line stands in?
    pub(super) fn holds(&self) -> Option<bool> {
        if self.0.iter().any(|branch| branch.holds == Some(false)) {
            return Some(false);
        }
        self.0.iter().all(|branch| branch.holds == Some(true)).then_some(true)
    }

    /// Takes the words of a statement that are about branches; what is left is its command and that one's words.
    pub(super) fn enter<'w>(
        &mut self,
        statement: &'w [Vec<u8>],
        values: &Values,
    ) -> Option<(&'w Vec<u8>, &'w [Vec<u8>])> {
        let mut words = statement;
        loop {
            let (first, rest) = words.split_first()?;
            match first.as_slice() {
                b"then" | b"do" => {}
                b"if" => {
                    self.0.push(Branch { holds: values.holds(rest), was: Some(false) });
                    return None;
                }
                b"while" | b"until" | b"for" => {
                    self.0.push(Branch { holds: None, was: None });
                    return None;
                }
                b"elif" => {
                    self.next(values.holds(rest));
                    return None;
                }
                b"else" => self.next(Some(true)),
                b"fi" | b"done" => {
                    self.0.pop();
                }
                _ => return Some((first, rest)),
            }
            words = rest;
        }
    }

    /// The next branch of the innermost `if`, with its own condition.
    fn next(&mut self, condition: Option<bool>) {
        let Some(branch) = self.0.last_mut() else { return };
        branch.was = match (branch.was, branch.holds) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        };
        branch.holds = match (branch.was, condition) {
            (Some(true), _) | (_, Some(false)) => Some(false),
            (Some(false), Some(true)) => Some(true),
            _ => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_comments_are_those_of_a_shell() {
        assert_eq!(words(b"a 'b c' \"d e\"f # g"), [&b"a"[..], b"b c", b"d ef"]);
        assert_eq!(words(b"a;b ';'"), [&b"a"[..], b";", b"b", b";"]);
    }

    #[test]
    fn a_condition_holds_does_not_or_is_not_known() {
        let values = Values::of(&BTreeMap::from([(b"a".to_vec(), b"1".to_vec())]));
        let holds = |text: &[u8]| values.holds(&words(text));
        assert_eq!(holds(b"[ \"${a}\" ]"), Some(true));
        assert_eq!(holds(b"[ x$a != x1 ]"), Some(false));
        assert_eq!(holds(b"[ -n \"${boot_counter}\" -a \"${other}\" = 0 ]"), Some(false));
        assert_eq!(holds(b"[ -z \"$next_entry\" -o \"$other\" ]"), Some(true));
        assert_eq!(
            (holds(b"[ -s $prefix/grubenv ]"), holds(b"[ x$feature = xy ]"), holds(b"cmostest 1")),
            (None, None, None)
        );
    }

    #[test]
    fn of_several_branches_the_first_that_holds_counts() {
        let mut branches = Branches::default();
        let values = Values::default();
        let mut enter = |text: &[u8]| {
            branches.enter(&words(text), &values);
            branches.holds()
        };
        assert_eq!(enter(b"if [ \"$next_entry\" ]"), Some(false));
        assert_eq!(enter(b"elif [ -z \"$next_entry\" ]"), Some(true));
        assert_eq!(enter(b"if [ \"$other\" ]"), None);
        assert_eq!(enter(b"fi"), Some(true));
        assert_eq!(enter(b"else"), Some(false));
        assert_eq!(enter(b"fi"), Some(true));
    }
}
