//! Layers: an image, the images below it, and the snapshots in it; each a disk of its own that `--layer` can choose.

use super::Opened;
use crate::block::BlockSource;
use crate::error::{Error, ErrorKind, Result};
use crate::locator::Locator;
use crate::text::escape;
use std::sync::Arc;

/// One image of a chain, or one internal snapshot.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Its file, or the snapshot's name; escaped.
    pub name: String,
    /// Of an internal snapshot its id within the image, escaped.
    pub snapshot: Option<String>,
    /// [`super::Format::name`].
    pub format: &'static str,
    /// Its own virtual size in bytes.
    pub size: u64,
    /// Its content alone with what is below it.
    pub disk: Arc<dyn BlockSource>,
}

impl Layer {
    /// An image in a file of its own.
    #[must_use]
    pub fn file(locator: &Locator, format: &'static str, disk: Arc<dyn BlockSource>) -> Self {
        Self { name: locator.to_string(), snapshot: None, format, size: disk.len(), disk }
    }

    /// Is it called so, in whichever way? `typed` is escaped, as names are.
    fn answers_to(&self, number: usize, typed: &str) -> bool {
        let file = self.name.rsplit('/').next().unwrap_or_default();
        typed == self.name
            || typed == number.to_string()
            || match &self.snapshot {
                None => typed == file,
                Some(id) => {
                    typed == id
                        || typed.strip_prefix("snapshot.id=") == Some(id)
                        || typed.strip_prefix("snapshot.name=") == Some(&self.name)
                }
            }
    }

    /// What to type so that nothing else can be meant.
    fn spelled(&self) -> String {
        self.snapshot.as_ref().map_or_else(|| self.name.clone(), |id| format!("snapshot.id={id}"))
    }
}

impl Opened {
    /// Makes the layer that `typed` names the disk. A word is a number in the list that `info` shows, a file's name or
    /// path, a snapshot's id or name, or either of them in qemu's words: `snapshot.id=1`, `snapshot.name=before`.
    ///
    /// # Errors
    /// `NotFound` with the list when it names none, or more than one: an id may be another layer's number.
    pub fn choose(mut self, typed: &str) -> Result<Self> {
        let wanted = escape(typed.as_bytes()).to_string();
        let found: Vec<usize> = (0..)
            .zip(&self.layers)
            .filter(|(number, layer)| layer.answers_to(*number, &wanted))
            .map(|(number, _)| number)
            .collect();
        let ([number], Some(layer)) =
            (found.as_slice(), found.first().and_then(|number| self.layers.get(*number)))
        else {
            return Err(self.no_layer(&wanted, &found));
        };
        if *number > 0 {
            self.disk = Arc::clone(&layer.disk);
            if layer.snapshot.is_none() {
                // What was said of the container was said of the top.
                (self.format, self.subformat) = (layer.format, None);
                self.facts.clear();
            }
            self.facts.push(("layer", format!("{number}: {}", layer.spelled())));
            self.sums.clear();
        }
        Ok(self)
    }

    fn no_layer(&self, wanted: &str, found: &[usize]) -> Error {
        /// More would bury the message.
        const SHOWN: usize = 40;
        let spelled = |number: usize| self.layers.get(number).map(Layer::spelled).unwrap_or_default();
        if !found.is_empty() {
            let names: Vec<String> =
                found.iter().map(|number| format!("--layer {}", spelled(*number))).collect();
            return Error::new(ErrorKind::NotFound, format!("more than one layer answers to '{wanted}'"))
                .help(format!("say which: {}", names.join(" or ")));
        }
        let mut names: Vec<String> = (0..self.layers.len().min(SHOWN))
            .map(|number| {
                let name = self.layers.get(number).map(|layer| layer.name.as_str()).unwrap_or_default();
                match self.layers.get(number).and_then(|layer| layer.snapshot.as_ref()) {
                    Some(id) => format!("{number} (snapshot {id}, '{name}')"),
                    None => format!("{number} ({name})"),
                }
            })
            .collect();
        if self.layers.len() > SHOWN {
            names.push("...".to_owned());
        }
        Error::new(ErrorKind::NotFound, format!("no layer '{wanted}'"))
            .help(format!("there are: {}", names.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::check_range;

    #[derive(Debug)]
    struct Sized(u64);

    impl BlockSource for Sized {
        fn len(&self) -> u64 {
            self.0
        }
        fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
            check_range(offset, buf.len(), self.0)
        }
    }

    /// An overlay, its base, and two snapshots of the overlay; each disk has another size.
    fn opened() -> Opened {
        let file = |name: &str, format, size| {
            Layer::file(&Locator::Path(name.into()), format, Arc::new(Sized(size)))
        };
        let snapshot =
            |name: &str, id: &str, size| Layer { snapshot: Some(id.to_owned()), ..file(name, "qcow2", size) };
        let layers = vec![
            file("/i/over.qcow2", "qcow2", 10),
            file("/b/base.raw", "raw", 11),
            snapshot("before", "1", 12),
            snapshot("3", "7", 13),
        ];
        Opened {
            disk: Arc::clone(&layers[0].disk),
            format: "qcow2",
            subformat: Some("v3".to_owned()),
            facts: vec![("version", "3".to_owned())],
            layers,
            member: None,
            others: Vec::new(),
            sums: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn chosen(typed: &str) -> (u64, &'static str) {
        opened().choose(typed).map(|image| (image.disk.len(), image.format)).unwrap()
    }

    #[test]
    fn a_layer_is_chosen_by_number_file_path_id_and_name() {
        assert_eq!((chosen("0"), chosen("over.qcow2")), ((10, "qcow2"), (10, "qcow2")));
        assert_eq!((chosen("base.raw"), chosen("/b/base.raw")), ((11, "raw"), (11, "raw")));
        assert_eq!(
            (chosen("2"), chosen("before"), chosen("snapshot.id=1")),
            ((12, "qcow2"), (12, "qcow2"), (12, "qcow2"))
        );
        assert_eq!(
            (chosen("7"), chosen("3"), chosen("snapshot.name=3")),
            ((13, "qcow2"), (13, "qcow2"), (13, "qcow2"))
        );
    }

    #[test]
    fn a_word_with_two_meanings_is_refused_with_both() {
        let error = opened().choose("1").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(
            error.help_text().unwrap().contains("--layer /b/base.raw or --layer snapshot.id=1"),
            "{error:?}"
        );
    }

    #[test]
    fn an_unknown_layer_is_refused_with_the_list() {
        let error = opened().choose("none\x1b").unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::NotFound, "no layer 'none\\x1b'"));
        assert!(
            error
                .help_text()
                .unwrap()
                .contains("0 (/i/over.qcow2), 1 (/b/base.raw), 2 (snapshot 1, 'before')")
        );
    }

    #[test]
    fn what_was_said_of_the_top_is_not_said_of_a_parent() {
        let image = opened().choose("base.raw").unwrap();
        assert_eq!((image.subformat, image.facts), (None, vec![("layer", "1: /b/base.raw".to_owned())]));
        assert_eq!(opened().choose("before").unwrap().facts.len(), 2);
    }
}
