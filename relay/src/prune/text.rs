//! Texts that leave: without what addresses in them may carry.

/// The longest text, in bytes. Kubernetes itself bounds a condition's at 32 KiB, and of several
/// hundred spans none keeps more than a part of it.
pub const MAX_TEXT: usize = 4096;

/// A name or an address, without user and password: a clone URL is often written with a token.
pub(super) fn as_it_is(text: &str) -> String {
    addresses(text, false)
}

/// A message, in which the query of an address may be a signature too: a registry's redirect to
/// its storage for example.
pub(super) fn message(text: &str) -> String {
    addresses(text, true)
}

fn addresses(text: &str, cut_queries: bool) -> String {
    let mut result = String::with_capacity(text.len().min(MAX_TEXT));
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        result.push_str(before);
        result.push_str("://");
        let end = after.find(ends_address).unwrap_or(after.len());
        let (address, behind) = after.split_at(end);
        let path = address.find(['/', '?', '#']).unwrap_or(address.len());
        let (authority, path) = address.split_at(path);
        result.push_str(authority.rsplit_once('@').map_or(authority, |(_, host)| host));
        let (path, query) = path.split_once('?').map_or((path, None), |(it, q)| (it, Some(q)));
        result.push_str(path);
        if let Some(query) = query {
            result.push('?');
            result.push_str(if cut_queries { "…" } else { query });
        }
        rest = behind;
    }
    result.push_str(rest);
    cut(result)
}

/// What no address goes on behind, in a message that quotes it.
fn ends_address(it: char) -> bool {
    it.is_whitespace() || matches!(it, '"' | '\'' | '<' | '>' | '`')
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT - '…'.len_utf8()));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_addresses_stay_and_queries_of_messages() {
        for (text, name, shown) in [
            ("build", "build", "build"),
            ("golang:1.26", "golang:1.26", "golang:1.26"),
            ("https://u:t0k@host/a.git", "https://host/a.git", "https://host/a.git"),
            ("https://u:p@s@host", "https://host", "https://host"),
            ("https://host/a?b=c#d", "https://host/a?b=c#d", "https://host/a?…"),
            ("https://host?b=c", "https://host?b=c", "https://host?…"),
            (
                r#"Get "https://u:p@r/v2/?sig=1": EOF, then http://k@s/x"#,
                r#"Get "https://r/v2/?sig=1": EOF, then http://s/x"#,
                r#"Get "https://r/v2/?…": EOF, then http://s/x"#,
            ),
            // Not part of the host.
            ("https://host/@scope/a", "https://host/@scope/a", "https://host/@scope/a"),
            ("ssh://git@host:7999/a.git", "ssh://host:7999/a.git", "ssh://host:7999/a.git"),
        ] {
            assert_eq!(as_it_is(text), name);
            assert_eq!(message(text), shown);
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let cut = message(&"ä".repeat(MAX_TEXT));
        assert!(cut.len() <= MAX_TEXT && cut.ends_with("ä…"), "{}", cut.len());
    }
}
