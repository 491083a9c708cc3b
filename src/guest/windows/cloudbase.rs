//! cloudbase-init, which is to Windows what cloud-init is to Linux: is it there, does it start, whom does it ask?
//!
//! ```text
//!   Services\cloudbase-init                                              Start, ImagePath: … --config-file "C:\…\x.conf"
//!   C:\Program Files\Cloudbase Solutions\Cloudbase-Init\conf\cloudbase-init.conf   [DEFAULT] metadata_services=…
//! ```

use super::keys::Keys;
use super::paths;
use super::services::Service;
use crate::error::Result;
use crate::guest::file::{self, MAX_CONFIG};
use crate::guest::{Evidence, Fact, Guest};
use crate::text::escape;

const NAME: &str = "cloudbase-init";
const CONFIG: &[&str] = &[
    "%ProgramFiles%\\Cloudbase Solutions\\Cloudbase-Init\\conf\\cloudbase-init.conf",
    "%ProgramFiles(x86)%\\Cloudbase Solutions\\Cloudbase-Init\\conf\\cloudbase-init.conf",
];
/// What it asks where its configuration does not say: cloudbase-init's documentation, "metadata_services".
const DEFAULT: &[&str] = &[
    "httpservice.HttpService",
    "configdrive.ConfigDriveService",
    "ec2service.EC2Service",
    "maasservice.MaaSHttpService",
    "cloudstack.CloudStack",
    "opennebulaservice.OpenNebulaService",
];

/// cloudbase-init in a guest.
#[derive(Clone, Debug)]
pub struct Cloudbase {
    /// Its service.
    pub service: Option<Service>,
    /// Its program, if the service has one that is not there.
    pub missing: Option<String>,
    /// The configuration, and where its list of sources stands.
    pub config: Option<Evidence>,
    /// The classes that it asks for its data, in their order.
    pub sources: Vec<String>,
}

impl Fact for Cloudbase {
    fn read(guest: &Guest) -> Result<Self> {
        let keys = Keys::of(guest)?;
        let (tree, windows) = (keys.tree(), keys.windows);
        let service = keys.service(NAME)?;
        let mut missing = None;
        let mut paths: Vec<String> = CONFIG.iter().map(|path| (*path).to_owned()).collect();
        if let Some(service) = &service {
            let program = paths::program(&service.image);
            if program.is_empty() || !windows.has_file(tree, program)? {
                missing = Some(program.to_owned());
            }
            if let Some(path) = config_of(&service.image) {
                paths.insert(0, path.to_owned());
            }
        }
        let (mut config, mut sources) = (None, Vec::new());
        for path in paths {
            let path = windows.locate(tree, &path)?;
            let Some(file) = file::read(tree, &path, MAX_CONFIG)? else { continue };
            let found = file.lines().filter_map(|(line, text)| Some((line, text, services(text)?))).last();
            config = Some(file.evidence("the configuration of cloudbase-init"));
            if let Some((line, text, list)) = found {
                sources = list;
                config = config.map(|config| config.line(line, text));
            } else {
                sources = DEFAULT.iter().map(|name| (*name).to_owned()).collect();
            }
            break;
        }
        Ok(Self { service, missing, config, sources })
    }
}

impl Cloudbase {
    /// The source that one of these words names: `ConfigDrive`, `ConfigDriveService`, `configdrive`.
    #[must_use]
    pub fn source(&self, words: &[&str]) -> Option<&str> {
        let is = |part: &str, word: &str| {
            let (part, word) = (part.to_ascii_lowercase(), word.to_ascii_lowercase());
            part == word || part.strip_suffix("service") == Some(&word)
        };
        let named = |source: &&String| words.iter().any(|word| source.split('.').any(|part| is(part, word)));
        self.sources.iter().find(named).map(String::as_str)
    }
}

/// The file that a command line names.
fn config_of(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("--config-file")?;
    let rest = rest.trim_start_matches([' ', '=']);
    let path = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => rest.split(' ').next(),
    };
    path.filter(|path| !path.is_empty())
}

/// The classes of a line `metadata_services=a.B,c.D`; `None` for any other line.
fn services(line: &[u8]) -> Option<Vec<String>> {
    let line = String::from_utf8_lossy(line);
    let (name, value) = line.split_once('=')?;
    let classes = value.split(',').map(str::trim).filter(|class| !class.is_empty());
    (name.trim() == "metadata_services")
        .then(|| classes.map(|class| escape(class.as_bytes()).to_string()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_sources_is_read() {
        let line = b"metadata_services = cloudbaseinit.metadata.services.configdrive.ConfigDriveService, a.b.HttpService,";
        let sources = services(line).unwrap();
        assert_eq!(sources.len(), 2);
        let found = Cloudbase { service: None, missing: None, config: None, sources };
        for word in ["ConfigDrive", "configdrive", "ConfigDriveService"] {
            assert!(found.source(&[word]).is_some(), "{word}");
        }
        assert_eq!(found.source(&["EC2"]), None);
        assert_eq!((services(b"#metadata_services=x"), services(b"plugins=x")), (None, None));
    }

    #[test]
    fn a_service_names_its_configuration() {
        let line =
            r#""C:\a\OpenStackService.exe" cloudbase-init "C:\a\x.exe" --config-file "C:\P F\conf\x.conf""#;
        assert_eq!(config_of(line), Some(r"C:\P F\conf\x.conf"));
        assert_eq!(config_of(r"x --config-file=C:\x.conf --y"), Some(r"C:\x.conf"));
        assert_eq!((config_of("x"), config_of("--config-file")), (None, None));
    }
}
