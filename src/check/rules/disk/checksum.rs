//! Does the file have the checksum that the import will be told?

use crate::block::BlockSource;
use crate::check::{Args, Check, Evidence, Outcome, Phrase, Seen, Subject, words};
use crate::error::{Error, ErrorKind, Result};
use sha2::{Digest as _, Sha256};

pub(in crate::check) struct Checksum;

/// Bytes read at once.
const CHUNK: u64 = 1 << 20;

impl Check for Checksum {
    fn id(&self) -> &'static str {
        "checksum"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "With --set sha256=SUM the file must have that SHA-256 sum, as the import will be told. The whole file is read for \
             it. Without the setting there is nothing to compare.",
            "若指定 --set sha256=SUM，文件的 SHA-256 必须与导入时声明的一致。此项会读取整个文件；未指定时不作比较。",
        )
    }

    fn run(&self, subject: &Subject<'_>, _args: &Args<'_>) -> Result<Outcome> {
        let Some(told) = subject.settings.get("sha256") else {
            return Ok(Outcome::NotApplicable(words!(
                "no sum was given (--set sha256=...)",
                "未指定校验和（--set sha256=...）"
            )));
        };
        let told = told.trim().to_ascii_lowercase();
        if told.len() != 64 || !told.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Error::new(
                ErrorKind::Usage,
                "--set sha256: a SHA-256 sum has 64 hexadecimal digits",
            ));
        }
        let none = || Error::new(ErrorKind::Unsupported, "the file that the image lies in is not known");
        let sum = sha256(&**subject.stack.file.as_ref().ok_or_else(none)?)?;
        let evidence = Evidence::new(format!("SHA-256 of the file: {sum}"));
        if sum == told {
            return Seen::new(words!("The file has the sum that was given.", "文件校验和与指定的一致。"))
                .at(evidence)
                .pass();
        }
        Seen::new(words!(
            "The file's SHA-256 is {sum}, not {told}: it is another file, or was damaged on its way.",
            "文件的 SHA-256 是 {sum}，不是 {told}：文件不同，或在传输中损坏。"
        ))
        .at(evidence)
        .fix(words!("copy the file again, or tell the import {sum}", "请重新传输文件，或在导入时声明 {sum}"))
        .fail()
    }
}

fn sha256(file: &dyn BlockSource) -> Result<String> {
    let (mut hash, mut at) = (Sha256::new(), 0);
    let mut buf = vec![0; crate::num::narrow(CHUNK.min(file.len()))];
    while at < file.len() {
        let want = CHUNK.min(file.len().saturating_sub(at));
        let Some(part) = buf.get_mut(..crate::num::narrow(want)) else { break };
        file.read_at(part, at)?;
        hash.update(&*part);
        at = at.saturating_add(want);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
