//! What operators set: hosts, addresses, templates, secrets.

use std::sync::LazyLock;

use spanhook_core::{
    host::Host,
    provider::Provider,
    secret::Secrets,
    settings::{Settings, TRACE_IDS, Variable, Vars, WEBHOOK_METRICS},
};
use spanhook_export::{ExportSettings, HEADERS, Signal, shown, variables};

use crate::cut;

/// Every variable of the pure half and of the exporter.
pub(crate) static VARIABLES: LazyLock<Vec<&'static Variable>> = LazyLock::new(|| {
    let rooms = Provider::ALL.into_iter().flat_map(|it| it.room().variables).copied();
    rooms.chain(variables()).chain([&TRACE_IDS, &WEBHOOK_METRICS]).collect()
});

/// Lines, each with a byte that chooses a variable and its value.
pub fn settings(data: &[u8]) -> bool {
    let mut vars = Vars::new();
    let mut hosts = false;
    for line in data.split(|it| *it == b'\n') {
        let Some((choice, value)) = cut::choice(line) else { continue };
        let Ok(value) = std::str::from_utf8(value) else { continue };
        hosts |= check_host(value);
        check_url(value);
        let secrets = Secrets::parse(value).is_ok_and(|it| !it.is_empty());
        let variable = VARIABLES[choice % VARIABLES.len()];
        assert!(!secrets || !value.trim().is_empty(), "a secret of nothing");
        vars.insert(variable.name.to_owned(), value.to_owned());
    }
    let ours = Settings::parse(&vars).is_ok() && !vars.is_empty();
    let exported = check_export(&mut vars);
    ours || exported || hosts
}

/// A host is one text, however often it is read, and of its address again.
fn check_host(text: &str) -> bool {
    let Ok(host) = Host::parse(text) else { return false };
    assert_eq!(Host::parse(host.as_str()).as_ref(), Ok(&host));
    let upper = Host::parse(&format!(" {} ", text.trim().to_ascii_uppercase()));
    assert_eq!(upper.as_ref(), Ok(&host), "in capitals");
    let plain = |it: u8| it.is_ascii_alphanumeric() || b"-_.:[]".contains(&it);
    assert!(host.as_str().bytes().all(plain) && host.as_str().len() <= 253, "{host}");
    assert_eq!(Host::of_url(&format!("https://me:s3cret@{host}/a?b#c")), Some(host));
    true
}

/// What is read of an address, and what is shown of it.
fn check_url(text: &str) {
    if let Some(host) = Host::of_url(text) {
        assert_eq!(Host::of_url(&format!("https://{host}")), Some(host));
    }
    let shown = shown(text);
    let authority = shown.split('/').nth(2).unwrap_or_default();
    assert!(!shown.contains(['?', '#']) && !authority.contains('@'), "{shown}");
}

/// Settings of the exporter, and with a secret in each place that takes one.
fn check_export(vars: &mut Vars) -> bool {
    const SECRET: &str = "Pr1vate-Mark";
    vars.insert(HEADERS.name.to_owned(), format!("authorization=Bearer%20{SECRET}"));
    let Ok(Some(settings)) = ExportSettings::parse(vars) else { return false };
    for signal in Signal::ALL {
        let endpoint = settings.endpoint(signal);
        assert!(endpoint.parse::<http::Uri>().is_ok_and(|it| it.host().is_some()), "{endpoint}");
    }
    let debug = format!("{settings:?}");
    assert!(!debug.contains(SECRET), "{debug}");
    true
}
