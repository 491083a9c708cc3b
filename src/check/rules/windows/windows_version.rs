//! Is it a Windows that is offered?

use crate::check::{Args, Check, Outcome, Param, ParamKind, Phrase, Seen, Subject, Words, or_outcome, words};
use crate::error::Result;
use crate::guest::windows::Product;
use crate::guest::windows::keys::absent;

pub(in crate::check) struct WindowsVersion;

impl Check for WindowsVersion {
    fn id(&self) -> &'static str {
        "windows-version"
    }

    fn explain(&self) -> Phrase {
        Phrase::new(
            "The Windows must be of a version that is offered (params: versions; 2012 R2, 2016, 10). It is known by its build and by \
             whether it is a server, not by the name in the registry. With --set platform, osVersion or osType it must also be \
             what the import will be told.",
            "Windows 版本必须受支持（参数 versions，如 2012 R2、2016、10），按内部版本号和是否为服务器版判断，而不是注册表中的名称。指定 --set platform、osVersion 或 osType 时，还必须与之相符。",
        )
    }

    fn params(&self) -> &'static [Param] {
        const { &[Param::required("versions", ParamKind::Words)] }
    }

    fn run(&self, subject: &Subject<'_>, args: &Args<'_>) -> Result<Outcome> {
        let guest = or_outcome!(subject.windows());
        let product = guest.windows_product()?;
        let Some(own) = family(product) else {
            return Err(absent("the number of the build, CurrentBuildNumber,"));
        };
        let (title, build) = (product.title(), product.full_build());
        let seen = |words: Words| Seen::new(words).all(product.evidence.clone());
        if let Some(told) = told_otherwise(subject, &own, is_server(product)) {
            return seen(words!(
                "The import will be told {told}, but the system is {title} (build {build}).",
                "导入时填写的是 {told}，但系统实际是 {title}（内部版本 {build}）。"
            ))
            .fix(words!("tell the import the version that it is: {title}", "导入时如实填写版本：{title}"))
            .fail();
        }
        let offered = args.words("versions")?;
        if offered.iter().any(|word| plain(word) == own) {
            return seen(words!("It is {title} (build {build}).", "系统为 {title}（内部版本 {build}）。"))
                .pass();
        }
        let offered = offered.join(", ");
        seen(words!(
            "It is {title} (build {build}), and only these are offered: {offered}.",
            "系统为 {title}（内部版本 {build}），仅支持：{offered}。"
        ))
        .fail()
    }
}

/// First build of a version, and what it is called: as a client, as a server. Microsoft, "Windows Server release information"
/// and "Operating System Version".
const BUILDS: &[(u32, &str, &str)] = &[
    (26_100, "11", "2025"),
    (25_398, "11", "23h2"),
    (22_000, "11", "2022"),
    (20_348, "10", "2022"),
    (17_764, "10", "sac"),
    (17_763, "10", "2019"),
    (14_394, "10", "sac"),
    (10_240, "10", "2016"),
    (9_600, "8.1", "2012r2"),
    (9_200, "8", "2012"),
    (7_600, "7", "2008r2"),
    (6_000, "vista", "2008"),
    (3_790, "xp", "2003"),
    (2_600, "xp", "xp"),
    (2_195, "2000", "2000"),
];

/// The version in one word, as a profile may have it: `2012r2`, `10`; `None` where the build is not known.
fn family(product: &Product) -> Option<String> {
    let build = product.build?;
    let (_, client, server) = BUILDS.iter().find(|(first, ..)| build >= *first)?;
    Some(if is_server(product) { (*server).to_owned() } else { (*client).to_owned() })
}

fn is_server(product: &Product) -> bool {
    let has = |text: &crate::text::Text| text.to_string().contains("Server");
    has(&product.installation) || has(&product.name)
}

/// `Windows Server 2012 R2` as `2012r2`.
fn plain(word: &str) -> String {
    let word = word.to_lowercase().replace(['-', '_', ' '], "");
    let word = word.trim_start_matches("windows").trim_start_matches("server");
    word.to_owned()
}

/// What the import will be told that this is not.
fn told_otherwise(subject: &Subject<'_>, own: &str, is_server: bool) -> Option<String> {
    let told = |name: &str| subject.settings.get(name).map(|value| (format!("{name}={value}"), plain(value)));
    if let Some(what) = subject.settings.get("osType").filter(|value| !value.eq_ignore_ascii_case("windows"))
    {
        return Some(format!("osType={what}"));
    }
    if let Some(what) = subject.settings.get("platform") {
        let lower = what.to_lowercase();
        if !lower.contains("windows") || (lower.contains("server") && !is_server) {
            return Some(format!("platform={what}"));
        }
    }
    // The longest name counts: 2012r2standard is no 2012.
    let named = |word: &str| {
        let all = BUILDS.iter().flat_map(|(_, client, server)| [*client, *server]);
        all.filter(|name| word.starts_with(name)).max_by_key(|name| name.len())
    };
    let both = ["osVersion", "platform"].into_iter().filter_map(told);
    both.filter(|(_, word)| named(word).is_some_and(|name| name != own)).map(|(what, _)| what).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_known_by_its_build() {
        let of = |build: u32, installation: &str| {
            let installation = installation.into();
            family(&Product { build: Some(build), installation, ..Product::default() }).unwrap()
        };
        // Microsoft's tables of releases.
        for (build, client, server) in [
            (6_002, "vista", "2008"),
            (7_601, "7", "2008r2"),
            (9_200, "8", "2012"),
            (9_600, "8.1", "2012r2"),
            (14_393, "10", "2016"),
            (17_763, "10", "2019"),
            (20_348, "10", "2022"),
            (26_100, "11", "2025"),
        ] {
            assert_eq!(
                (of(build, "Client"), of(build, "Server Core")),
                (client.to_owned(), server.to_owned())
            );
        }
        assert_eq!(of(19_045, "Client"), "10");
    }

    #[test]
    fn words_of_profiles_and_imports_are_alike() {
        for word in ["2012 R2", "Windows Server 2012 R2", "windows-server-2012-r2", "2012R2"] {
            assert_eq!(plain(word), "2012r2", "{word}");
        }
        assert_eq!(plain("Windows 10"), "10");
    }
}
