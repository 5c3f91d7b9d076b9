//! What every provider's room says of its variables.

use spanhook_core::{check::Scheme, provider::Provider};

#[test]
fn a_rooms_checks_use_its_own_variables_and_share_no_header() {
    for room in Provider::ALL.map(Provider::room) {
        let mut used: Vec<_> = room.checks.iter().map(|it| it.variable).collect();
        let audience = |scheme| match scheme {
            Scheme::Oidc { audience } => Some(audience),
            _ => None,
        };
        used.extend(room.checks.iter().filter_map(|it| audience(it.scheme)));
        assert!(used.iter().all(|it| room.variables.contains(it)), "{}: {used:?}", room.name);
        // The gate keeps one of each: two would be one with two secrets or issuers.
        for shared in [|it| it == Scheme::Bearer, |it| matches!(it, Scheme::Oidc { .. })] {
            let count = room.checks.iter().filter(|it| shared(it.scheme)).count();
            assert!(count <= 1, "{}", room.name);
        }
    }
}
