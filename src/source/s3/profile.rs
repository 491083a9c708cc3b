//! Who one is to S3 and where it is: the environment, then the files of the AWS command line, as its other programs read
//! them. Nothing is asked over the network for it: not the metadata of a virtual machine, no single sign-on.
//!
//! | | the environment | the profile (`AWS_PROFILE`, or `default`) |
//! |---|---|---|
//! | keys | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` | `aws_access_key_id`, ... in `credentials`, then in `config` |
//! | region | `AWS_REGION`, `AWS_DEFAULT_REGION` | `region` |
//! | endpoint | `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL` | `endpoint_url` of its `services`, then its own |
//! | style | | `addressing_style` under `s3` |

use crate::error::{Error, ErrorKind, Result};
use crate::text::escape;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// The largest file that is read for a configuration.
const MAX_FILE: u64 = 1 << 20;

/// What signs a request.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) token: Option<String>,
}

impl fmt::Debug for Credentials {
    /// Whose they are is no secret, what they are is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

/// How buckets are named in URLs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// By what host and bucket look like.
    Auto,
    /// In the path.
    Path,
    /// In the host.
    Virtual,
}

/// Everything that is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Profile {
    /// None: requests are not signed.
    pub(super) credentials: Option<Credentials>,
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) style: Style,
}

/// The process's own.
pub(super) fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

impl Profile {
    /// Reads environment and files.
    ///
    /// # Errors
    /// `Usage` when `AWS_PROFILE` names none; `Unsupported` when it gets its keys from elsewhere; `Source` when a file
    /// cannot be read.
    pub(super) fn load(environment: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let text = |name: &str| {
            let value = environment(name)?.into_string().ok()?.trim().to_owned();
            Some(value).filter(|value| !value.is_empty())
        };
        let home = environment("HOME").map(PathBuf::from);
        let file = |name: &str, own: &str| {
            let named = environment(name).filter(|path| !path.is_empty()).map(PathBuf::from);
            let usual = home.as_ref().map(|home| home.join(".aws").join(own));
            named.or(usual).map_or_else(|| Ok(Sections::default()), |path| read(&path))
        };
        let credentials = file("AWS_SHARED_CREDENTIALS_FILE", "credentials")?;
        let config = file("AWS_CONFIG_FILE", "config")?;
        let chosen = text("AWS_PROFILE");
        let name = chosen.as_deref().unwrap_or("default");
        let own = credentials.get(name);
        let shared = config.get(&format!("profile {name}")).or_else(|| {
            // Only the default profile may stand there without the word.
            config.get(name).filter(|_| name == "default")
        });
        if chosen.is_some() && own.is_none() && shared.is_none() {
            let what = format!("AWS_PROFILE: there is no profile '{}'", escape(name.as_bytes()));
            return Err(Error::new(ErrorKind::Usage, what)
                .help("profiles are in ~/.aws/config and ~/.aws/credentials"));
        }
        let value = |key: &str| {
            let found = own.and_then(|section| section.get(key)).or_else(|| shared?.get(key));
            found.filter(|value| !value.is_empty()).cloned()
        };
        let services = value("services").and_then(|name| config.get(&format!("services {name}")));
        let service = services.and_then(|section| section.get("s3.endpoint_url")).cloned();

        let keys = |id: Option<String>, secret: Option<String>, token: Option<String>| {
            id.zip(secret).map(|(id, secret)| Credentials { id, secret, token })
        };
        let section_keys = |section: Option<&Section>| {
            let key = |name: &str| section?.get(name).filter(|value| !value.is_empty()).cloned();
            keys(key("aws_access_key_id"), key("aws_secret_access_key"), key("aws_session_token"))
        };
        let of_environment =
            keys(text("AWS_ACCESS_KEY_ID"), text("AWS_SECRET_ACCESS_KEY"), text("AWS_SESSION_TOKEN"));
        let found = of_environment.or_else(|| section_keys(own)).or_else(|| section_keys(shared));
        if found.is_none()
            && let Some(way) =
                ["role_arn", "sso_session", "sso_start_url", "credential_process", "login_session"]
                    .into_iter()
                    .find(|key| value(key).is_some())
        {
            let what = format!("the AWS profile '{}' gets its keys by {way}, which", escape(name.as_bytes()));
            return Err(Error::unsupported(what).help(EXPORT));
        }
        let style = match value("s3.addressing_style").as_deref() {
            Some("path") => Style::Path,
            Some("virtual") => Style::Virtual,
            _ => Style::Auto,
        };
        Ok(Self {
            credentials: found,
            region: text("AWS_REGION").or_else(|| text("AWS_DEFAULT_REGION")).or_else(|| value("region")),
            endpoint: text("AWS_ENDPOINT_URL_S3")
                .or_else(|| text("AWS_ENDPOINT_URL"))
                .or(service)
                .or_else(|| value("endpoint_url")),
            style,
        })
    }
}

/// What to do about keys that we do not fetch ourselves.
pub(super) const EXPORT: &str = "let the AWS command line put them into the environment: eval \"$(aws configure export-credentials --format env)\"";

type Section = HashMap<String, String>;
type Sections = HashMap<String, Section>;

fn read(path: &std::path::Path) -> Result<Sections> {
    use std::io::Read as _;
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Source, escape(path.as_os_str().as_encoded_bytes()).to_string())
            .caused_by(error)
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Sections::default()),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(failed)?;
    Ok(parse(&String::from_utf8_lossy(&bytes)))
}

/// Sections of `key = value`; what is indented below a key without a value is `key.inner`.
fn parse(text: &str) -> Sections {
    let mut sections = Sections::new();
    let (mut section, mut outer) = (None::<String>, String::new());
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
            sections.entry(name.clone()).or_default();
            section = Some(name);
            outer.clear();
            continue;
        }
        let Some((key, value)) = trimmed.split_once('=') else { continue };
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        let Some(section) = section.as_ref().and_then(|name| sections.get_mut(name)) else { continue };
        if line.starts_with([' ', '\t']) && !outer.is_empty() {
            section.insert(format!("{outer}.{key}"), value.to_owned());
        } else {
            outer = if value.is_empty() { key.clone() } else { String::new() };
            // A remark behind a value stands behind a space.
            let value = value.split(" #").next().unwrap_or(value).trim_end();
            section.insert(key, value.to_owned());
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A profile out of variables and the two files.
    fn load(variables: &[(&str, &str)], credentials: &str, config: &str) -> Result<Profile> {
        let dir = tempfile::tempdir().unwrap();
        let files = [("AWS_SHARED_CREDENTIALS_FILE", credentials), ("AWS_CONFIG_FILE", config)];
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        Profile::load(|name| {
            if files.iter().any(|(file, _)| *file == name) {
                return Some(dir.path().join(name).into_os_string());
            }
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    }

    const CREDENTIALS: &str = "# mine\n[default]\naws_access_key_id = DID\naws_secret_access_key=Dsecret/+=\n\
        [work]\naws_access_key_id=WID\naws_secret_access_key=W\naws_session_token=T\n";
    const CONFIG: &str = "[default]\nregion = eu-central-1 # home\n[profile work]\nregion=eu-west-1\n\
        endpoint_url = http://work:9000\ns3 =\n  addressing_style = path\n  max_queue_size = 1\nservices = here\n\
        [services here]\ns3 =\n  endpoint_url = http://here:9000\n[profile sso]\nsso_start_url = https://x\n";

    fn id(profile: &Profile) -> Option<&str> {
        profile.credentials.as_ref().map(|keys| keys.id.as_str())
    }

    #[test]
    fn the_default_profile_is_used_where_nothing_is_said() {
        let found = load(&[], CREDENTIALS, CONFIG).unwrap();
        let secret = &found.credentials.as_ref().unwrap().secret;
        assert_eq!((id(&found), secret.as_str()), (Some("DID"), "Dsecret/+="));
        assert_eq!(
            (found.region.as_deref(), found.endpoint, found.style),
            (Some("eu-central-1"), None, Style::Auto)
        );
    }

    #[test]
    fn a_named_profile_brings_token_endpoint_and_style() {
        let found = load(&[("AWS_PROFILE", "work")], CREDENTIALS, CONFIG).unwrap();
        assert_eq!(found.credentials.as_ref().unwrap().token.as_deref(), Some("T"));
        assert_eq!((id(&found), found.region.as_deref()), (Some("WID"), Some("eu-west-1")));
        assert_eq!((found.endpoint.as_deref(), found.style), (Some("http://here:9000"), Style::Path));
    }

    #[test]
    fn the_environment_comes_first() {
        let variables = [
            ("AWS_ACCESS_KEY_ID", "EID"),
            ("AWS_SECRET_ACCESS_KEY", "E"),
            ("AWS_REGION", "r"),
            ("AWS_ENDPOINT_URL", "http://all"),
            ("AWS_ENDPOINT_URL_S3", "http://s3"),
        ];
        let found = load(&variables, CREDENTIALS, CONFIG).unwrap();
        assert_eq!((id(&found), found.region.as_deref()), (Some("EID"), Some("r")));
        assert_eq!(found.endpoint.as_deref(), Some("http://s3"));
    }

    #[test]
    fn without_keys_there_are_none() {
        assert_eq!(id(&load(&[("AWS_ACCESS_KEY_ID", "half")], "", "").unwrap()), None);
    }

    #[test]
    fn profiles_that_are_missing_or_ask_elsewhere_are_named() {
        let missing = load(&[("AWS_PROFILE", "x\x1b")], CREDENTIALS, CONFIG).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::Usage);
        assert!(missing.to_string().contains("'x\\x1b'"));
        let elsewhere = load(&[("AWS_PROFILE", "sso")], CREDENTIALS, CONFIG).unwrap_err();
        assert_eq!(elsewhere.kind(), ErrorKind::Unsupported);
        assert!(elsewhere.to_string().contains("sso_start_url"));
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", load(&[], CREDENTIALS, CONFIG).unwrap());
        assert!(!shown.contains("Dsecret") && !shown.contains("DID"), "{shown}");
    }
}
