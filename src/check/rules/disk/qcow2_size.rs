//! Is what the image really holds small enough, counted as a QCOW2 file?

use crate::check::{Args, Check, Evidence, Outcome, Param, ParamKind, Phrase, Seen, Subject, human, words};
use crate::error::{Error, ErrorKind, Result};

pub(in crate::check) struct Qcow2Size;

impl Check for Qcow2Size {
    fn id(&self) -> &'static str {
        "qcow2-size"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The image must not be larger than the limit (params: max) after conversion to QCOW2. Nothing is converted: \
             the map of the image gives the largest possible size, as qemu-img measure does; zeros that are stored make it \
             smaller. Where that matters, the rule stays undecided until --full-scan reads the disk.",
            "镜像转换为 QCOW2 后不得大于上限（参数：max）。并不实际转换：镜像的映射表给出可能的最大值（与 qemu-img measure 相同），\
             其中存储的全零数据会使实际值更小。若因此无法判定，则为未定，需用 --full-scan 读取整个磁盘。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("max", ParamKind::Size)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let (size, max) = (subject.qcow2_size()?, args.size("max")?);
        let evidence = Evidence::new(format!("size as QCOW2: {} to {} bytes", size.min, size.max));
        let (least, most, limit) = (human(size.min), human(size.max), human(max));
        if size.max <= max {
            return Seen::new(words!(
                "As QCOW2 it has at most {most}, of at most {limit}.",
                "转换为 QCOW2 后最多 {most}，上限 {limit}。"
            ))
            .at(evidence)
            .pass();
        }
        if size.min > max {
            return Seen::new(words!(
                "As QCOW2 it has at least {least}, more than {limit}.",
                "转换为 QCOW2 后至少 {least}，超过上限 {limit}。"
            ))
            .at(evidence)
            .fix(words!(
                "zero what is free and convert it: fstrim in the guest, or virt-sparsify; then look again",
                "清零空闲空间后再转换：在客户机内执行 fstrim，或使用 virt-sparsify，然后重新检查"
            ))
            .fail();
        }
        let why = format!("as QCOW2 it has between {least} and {most}, and the limit is {limit}");
        Ok(Outcome::Unknown(
            Error::new(ErrorKind::Limit, why).help("--full-scan reads the disk and decides it"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockSource, Extent};
    use crate::check::Settings;
    use crate::image::Opened;
    use std::sync::Arc;

    /// Two MiB that are stored and zero, then a byte that is not.
    #[derive(Debug)]
    struct StoredZeros;

    impl BlockSource for StoredZeros {
        fn len(&self) -> u64 {
            (2 << 20) + 1
        }

        fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
            buf.fill(0);
            let last = (2_u64 << 20).checked_sub(offset).map(crate::num::narrow);
            if let Some(byte) = last.and_then(|last| buf.get_mut(last)) {
                *byte = 1;
            }
            Ok(())
        }

        fn extent(&self, offset: u64) -> Result<Extent> {
            Ok(Extent { len: self.len().saturating_sub(offset), zero: false, hole: false })
        }
    }

    fn decide(max: &str, full_scan: bool) -> Outcome {
        let disk: Arc<dyn BlockSource> = Arc::new(StoredZeros);
        let image = Opened {
            disk,
            format: "raw",
            subformat: None,
            facts: Vec::new(),
            layers: Vec::new(),
            member: None,
            others: Vec::new(),
            sums: Vec::new(),
            warnings: Vec::new(),
        };
        let stack = crate::stack::above("disk".to_owned(), image, &crate::stack::Options::default());
        let settings = Settings::default();
        let table: toml::Table = toml::from_str(&format!("max = \"{max}\"")).unwrap();
        Qcow2Size.run(&Subject::new(&stack, &settings, full_scan), &Args::new(&table)).unwrap()
    }

    #[test]
    fn between_the_bounds_it_is_undecided_until_the_disk_is_read() {
        // The map says 33 clusters with 5 of metadata; one of them is not zero.
        assert!(matches!(decide("3 MiB", false), Outcome::Pass(_)));
        assert!(matches!(decide("1 MiB", false), Outcome::Unknown(_)));
        assert!(matches!(decide("1 MiB", true), Outcome::Pass(_)));
        assert!(matches!(decide("128 KiB", false), Outcome::Fail(_)));
    }
}
