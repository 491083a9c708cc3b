//! Rules as `iptables-save` writes them: the `filter` table, followed for one new TCP connection from anywhere.

use super::Passage;
use crate::error::Result;
use crate::fs::tree::Tree;
use crate::guest::evidence::Evidence;
use crate::guest::file::{self, GuestFile, MAX_CONFIG};
use std::collections::BTreeMap;

/// Where the services read them from: Red Hat, Debian's iptables-persistent, Arch and Alpine.
const FILES: &[&str] = &[
    "/etc/sysconfig/iptables",
    "/etc/iptables/rules.v4",
    "/etc/iptables/iptables.rules",
    "/etc/iptables/rules-save",
];
/// Rules that are read, and steps that following them may take.
const MAX_RULES: usize = 20_000;
/// Chains that call each other.
const MAX_DEPTH: usize = 16;

/// The `filter` table.
#[derive(Debug, Default)]
pub(super) struct Table {
    policies: BTreeMap<String, bool>,
    chains: BTreeMap<String, Vec<Vec<String>>>,
}

/// The table of the file that is there, and the file.
pub(super) fn read(tree: &Tree) -> Result<Option<(Table, Evidence)>> {
    let file = file::read_first(tree, FILES, MAX_CONFIG)?;
    Ok(file.map(|file| (Table::parse(&file), file.evidence("rules of iptables"))))
}

/// What became of a connection in one chain.
enum Walk {
    Accepted,
    Dropped,
    /// It came out at the end, or by RETURN.
    Through,
}

/// What a rule may have done, had its conditions held.
#[derive(Default)]
struct Doubts {
    accept: Option<String>,
    drop: Option<String>,
    steps: usize,
}

impl Table {
    pub(super) fn parse(file: &GuestFile) -> Self {
        let mut table = Self::default();
        let (mut is_filter, mut rules) = (false, 0_usize);
        for (_, text) in file.lines() {
            let text = String::from_utf8_lossy(text);
            let text = text.trim();
            if let Some(name) = text.strip_prefix('*') {
                is_filter = name == "filter";
            } else if !is_filter || rules >= MAX_RULES {
            } else if let Some(chain) = text.strip_prefix(':') {
                let mut words = chain.split_whitespace();
                let name = words.next().unwrap_or_default().to_owned();
                table.policies.insert(name.clone(), words.next() == Some("DROP"));
                table.chains.entry(name).or_default();
            } else if text.starts_with('-') {
                rules = rules.saturating_add(1);
                let words: Vec<String> = split(text);
                let mut words = words.into_iter();
                let (verb, chain) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                let chain = table.chains.entry(chain).or_default();
                match verb.as_str() {
                    "-A" | "--append" => chain.push(words.collect()),
                    "-I" | "--insert" => {
                        let rest: Vec<String> = words.collect();
                        // A number may say where; at the front otherwise.
                        let at = rest.first().and_then(|word| word.parse::<usize>().ok());
                        let rule = rest.get(usize::from(at.is_some())..).unwrap_or_default().to_vec();
                        let at = at.unwrap_or(1).saturating_sub(1).min(chain.len());
                        chain.insert(at, rule);
                    }
                    _ => {}
                }
            }
        }
        table
    }

    /// Does anything in it drop or refuse what comes in?
    pub(super) fn filters(&self) -> bool {
        let stops =
            |rule: &Vec<String>| target(rule).is_some_and(|target| target == "DROP" || target == "REJECT");
        self.policies.values().any(|drops| *drops) || self.chains.values().flatten().any(stops)
    }

    /// Follows a connection from the start of a chain.
    pub(super) fn passage(&self, chain: &str, port: u16) -> Passage {
        self.passage_or(chain, port, self.policies.get(chain).copied().unwrap_or(false))
    }

    /// As [`Table::passage`]; `refuses` says what becomes of what comes out at the end of the chain.
    pub(super) fn passage_or(&self, chain: &str, port: u16, refuses: bool) -> Passage {
        let mut doubts = Doubts::default();
        let dropped = match self.walk(chain, port, &mut doubts, 0) {
            Walk::Accepted => false,
            Walk::Dropped => true,
            Walk::Through => refuses,
        };
        let doubt = if dropped { doubts.accept } else { doubts.drop };
        match (doubt, dropped) {
            (Some(rule), _) => Passage::Unknown(format!("a rule depends on more than the port: {rule}")),
            (None, true) => Passage::Blocked,
            (None, false) => Passage::Open,
        }
    }

    fn walk(&self, chain: &str, port: u16, doubts: &mut Doubts, depth: usize) -> Walk {
        for rule in self.chains.get(chain).into_iter().flatten() {
            doubts.steps = doubts.steps.saturating_add(1);
            if depth > MAX_DEPTH || doubts.steps > MAX_RULES {
                let why = "its chains are nested too deeply, or too long".to_owned();
                (doubts.accept, doubts.drop) = (Some(why.clone()), Some(why));
                return Walk::Through;
            }
            let fit = fits(rule, port);
            let Some(target) = target(rule).filter(|_| fit != Fit::No) else { continue };
            let text = || crate::text::escape(rule.join(" ").as_bytes()).to_string();
            match (target, fit) {
                ("ACCEPT", Fit::Yes) => return Walk::Accepted,
                ("DROP" | "REJECT" | "TARPIT", Fit::Yes) => return Walk::Dropped,
                ("RETURN", Fit::Yes) => return Walk::Through,
                ("ACCEPT", _) => {
                    doubts.accept.get_or_insert_with(text);
                }
                ("DROP" | "REJECT" | "TARPIT", _) => {
                    doubts.drop.get_or_insert_with(text);
                }
                ("RETURN", _) => {
                    doubts.accept.get_or_insert_with(text);
                    doubts.drop.get_or_insert_with(text);
                }
                (own, fit) if self.chains.contains_key(own) => {
                    let walked = self.walk(own, port, doubts, depth.saturating_add(1));
                    match (walked, fit) {
                        (Walk::Through, _) => {}
                        (walked, Fit::Yes) => return walked,
                        (Walk::Accepted, _) => {
                            doubts.accept.get_or_insert_with(text);
                        }
                        (Walk::Dropped, _) => {
                            doubts.drop.get_or_insert_with(text);
                        }
                    }
                }
                // LOG, MARK and the like let it go on.
                _ => {}
            }
        }
        Walk::Through
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Yes,
    No,
    Maybe,
}

fn target(rule: &[String]) -> Option<&str> {
    let at = rule.iter().position(|word| matches!(word.as_str(), "-j" | "--jump" | "-g" | "--goto"))?;
    rule.get(at.checked_add(1)?).map(String::as_str)
}

/// Is a rule for a first packet of TCP to this port, that comes in by some card from anywhere?
fn fits(rule: &[String], port: u16) -> Fit {
    let (mut fit, mut negated) = (Fit::Yes, false);
    let mut words = rule.iter().map(String::as_str);
    let mut both = |is_it: Fit, negated: bool| {
        let is_it = match (is_it, negated) {
            (Fit::Yes, true) => Fit::No,
            (Fit::No, true) => Fit::Yes,
            (is_it, _) => is_it,
        };
        if is_it == Fit::No || fit == Fit::No {
            fit = Fit::No;
        } else if is_it == Fit::Maybe {
            fit = Fit::Maybe;
        }
    };
    let yes = |is_it: bool| if is_it { Fit::Yes } else { Fit::No };
    while let Some(word) = words.next() {
        if word == "!" {
            negated = true;
            continue;
        }
        let is_not = std::mem::take(&mut negated);
        let mut value = || words.next().unwrap_or_default();
        match word {
            "-j" | "--jump" | "-g" | "--goto" => break,
            "-m" | "--match" => {
                let module = value();
                let is_plain = matches!(module, "tcp" | "state" | "conntrack" | "multiport" | "comment");
                match module {
                    "udp" | "icmp" | "icmp6" => both(Fit::No, false),
                    _ if is_plain => {}
                    // limit, recent, set, time: what they say, nobody knows beforehand.
                    _ => both(Fit::Maybe, false),
                }
            }
            "-p" | "--protocol" => both(yes(matches!(value(), "tcp" | "6" | "all" | "0")), is_not),
            "-i" | "--in-interface" => {
                let card = value();
                // lo is not the way in; the card's name on the target is not known.
                both(if card == "lo" { Fit::No } else { Fit::Maybe }, is_not);
            }
            "--dport" | "--destination-port" | "--dports" | "--destination-ports" | "--ports" => {
                both(ports(value(), port), is_not);
            }
            "-s" | "--source" => both(if value() == "0.0.0.0/0" { Fit::Yes } else { Fit::Maybe }, is_not),
            "--state" | "--ctstate" => both(yes(value().split(',').any(|state| state == "NEW")), is_not),
            "--tcp-flags" => {
                let (_, set) = (value(), value());
                both(yes(set == "SYN"), is_not);
            }
            "--syn" => both(Fit::Yes, is_not),
            "--comment" => drop(value().len()),
            "-o" | "--out-interface" => both(Fit::No, is_not),
            // Words of modules that are in doubt anyway, and values of theirs.
            _ if word.starts_with("--") => both(Fit::Maybe, false),
            _ if word.starts_with('-') => both(Fit::Maybe, false),
            _ => {}
        }
    }
    fit
}

/// `22`, `ssh`, `20:25`, `22,80`.
fn ports(text: &str, port: u16) -> Fit {
    let mut fit = Fit::No;
    for part in text.split(',') {
        let number = |text: &str| -> Option<u16> {
            match text {
                "ssh" => Some(22),
                "" => None,
                digits => digits.parse().ok(),
            }
        };
        let is_it = match part.split_once(':') {
            Some((from, to)) => {
                let (from, to) = (number(from).unwrap_or(0), number(to).unwrap_or(u16::MAX));
                Some((from..=to).contains(&port))
            }
            None => number(part).map(|number| number == port),
        };
        match is_it {
            Some(true) => return Fit::Yes,
            Some(false) => {}
            // Another name from /etc/services is another port than one that is asked for by number, mostly.
            None => fit = Fit::Maybe,
        }
    }
    fit
}

/// Words, those in quotes as one.
fn split(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut any) = (Vec::new(), String::new(), false, false);
    for c in text.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                any = true;
            }
            c if c.is_whitespace() && !quoted => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            c => word.push(c),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        Table::parse(&GuestFile { path: b"/x".to_vec(), volume: String::new(), bytes: text.into() })
    }

    /// What CentOS 6 has from its installer.
    const CENTOS: &str = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -m state --state ESTABLISHED,RELATED -j ACCEPT\n-A INPUT -p icmp -j ACCEPT\n-A INPUT -i lo -j ACCEPT\n-A INPUT -m state --state NEW -m tcp -p tcp --dport 22 -j ACCEPT\n-A INPUT -j REJECT --reject-with icmp-host-prohibited\nCOMMIT\n";

    #[test]
    fn a_port_is_open_if_a_rule_lets_it_in_before_the_rest_is_refused() {
        let table = table(CENTOS);
        assert_eq!(table.passage("INPUT", 22), Passage::Open);
        assert_eq!(table.passage("INPUT", 3389), Passage::Blocked);
        assert!(table.filters());
    }

    #[test]
    fn chains_are_followed_and_what_depends_on_more_is_not_known() {
        let of = |rules: &str| {
            table(&format!("*filter\n:INPUT DROP [0:0]\n:own - [0:0]\n{rules}COMMIT\n")).passage("INPUT", 22)
        };
        assert_eq!(
            of("-A INPUT -p tcp -j own\n-A own -p tcp -m multiport --dports 80,20:25 -j ACCEPT\n"),
            Passage::Open
        );
        assert_eq!(of("-A own -p tcp --dport ssh -j ACCEPT\n"), Passage::Blocked);
        assert!(matches!(of("-A INPUT -s 10.0.0.0/8 -p tcp --dport 22 -j ACCEPT\n"), Passage::Unknown(_)));
        assert!(matches!(
            of("-A INPUT -m recent --rcheck -p tcp --dport 22 -j ACCEPT\n"),
            Passage::Unknown(_)
        ));
        assert_eq!(of("-A INPUT -p udp -m udp --dport 22 -j ACCEPT\n"), Passage::Blocked);
        assert!(matches!(of("-A INPUT -j own\n-A own -j own\n"), Passage::Unknown(_)));
    }

    #[test]
    fn rules_that_let_all_pass_filter_nothing() {
        assert!(!table("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp -j ACCEPT\nCOMMIT\n").filters());
        assert!(!table("*nat\n:INPUT DROP [0:0]\nCOMMIT\n").filters());
    }
}
