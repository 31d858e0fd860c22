//! SPIFFE IDs and trust domains, parsed once at the edge (SPIFFE-ID, sections
//! 2.1 to 2.3).

use std::fmt;
use std::str::FromStr;

/// SPIFFE-ID 2.3: implementations must support, and may stop at, 2048 bytes.
const MAX_ID: usize = 2048;
const MAX_TRUST_DOMAIN: usize = 255;

/// The name of a trust domain, for example `demo.mesh`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TrustDomain(String);

/// `spiffe://<trust domain>/<path>`; the path may be empty for a trust domain's
/// own ID, which no workload has.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SpiffeId {
    text: String,
    domain: TrustDomain,
}

impl SpiffeId {
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// A trust domain's own ID has no path; no workload has that one
    /// (X509-SVID 2).
    pub fn has_path(&self) -> bool {
        self.text.len() > "spiffe://".len() + self.domain.0.len()
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for TrustDomain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        if text.is_empty() {
            return Err("an empty trust domain".to_owned());
        }
        if text.len() > MAX_TRUST_DOMAIN {
            return Err(format!(
                "a trust domain of more than {MAX_TRUST_DOMAIN} bytes"
            ));
        }
        if !text.bytes().all(allowed) {
            return Err(format!(
                "trust domain {text:?}: only a-z, 0-9, '.', '-' and '_' are allowed"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for SpiffeId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > MAX_ID {
            return Err(format!("a SPIFFE ID of more than {MAX_ID} bytes"));
        }
        let Some(rest) = text.strip_prefix("spiffe://") else {
            return Err(format!("{text:?} is not a SPIFFE ID: no spiffe:// scheme"));
        };
        let (domain, path) = match rest.split_once('/') {
            Some((domain, path)) => (domain, Some(path)),
            None => (rest, None),
        };
        let domain = domain.parse::<TrustDomain>()?;
        if let Some(path) = path {
            check_path(path).map_err(|reason| format!("SPIFFE ID {text:?}: {reason}"))?;
        }
        Ok(Self {
            text: text.to_owned(),
            domain,
        })
    }
}

/// SPIFFE-ID 2.2: segments of letters, digits, '.', '-' and '_', none empty or
/// relative, so neither query, fragment nor percent-encoding.
fn check_path(path: &str) -> Result<(), &'static str> {
    for segment in path.split('/') {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        match segment {
            "" => return Err("empty path segment"),
            "." | ".." => return Err("relative path segment"),
            _ if !segment.bytes().all(allowed) => {
                return Err("only letters, digits, '.', '-' and '_' are allowed in the path");
            }
            _ => {}
        }
    }
    Ok(())
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_workload_id_is_taken_apart() {
        let id: SpiffeId = "spiffe://demo.mesh/ns/demo/sa/client".parse().unwrap();
        assert_eq!(id.trust_domain().to_string(), "demo.mesh");
        assert_eq!(id.as_str(), "spiffe://demo.mesh/ns/demo/sa/client");
        assert!(id.has_path());
        let domain: SpiffeId = "spiffe://demo.mesh".parse().unwrap();
        assert!(!domain.has_path());
    }

    #[test]
    fn what_the_specification_forbids_is_refused() {
        for text in [
            "",
            "https://demo.mesh/a",
            "SPIFFE://demo.mesh/a",
            "spiffe://",
            "spiffe:///a",
            "spiffe://Demo.mesh/a",
            "spiffe://demo.mesh:443/a",
            "spiffe://user@demo.mesh/a",
            "spiffe://demo.mesh/",
            "spiffe://demo.mesh/a/",
            "spiffe://demo.mesh//a",
            "spiffe://demo.mesh/a/../b",
            "spiffe://demo.mesh/./b",
            "spiffe://demo.mesh/a?b",
            "spiffe://demo.mesh/a#b",
            "spiffe://demo.mesh/%61",
            "spiffe://demo.mesh/a b",
            "spiffe://demo.mesh/\"",
            "spiffe://demo.mesh/\u{e9}",
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text:?}");
        }
        let long = format!("spiffe://demo.mesh/{}", "a".repeat(MAX_ID));
        assert!(long.parse::<SpiffeId>().is_err());
        let long = format!("spiffe://{}/a", "a".repeat(256));
        assert!(long.parse::<SpiffeId>().is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_accepted_is_safe_to_quote(text in "\\PC{0,80}") {
            if let Ok(id) = text.parse::<SpiffeId>() {
                prop_assert!(!id.as_str().contains(['"', ';', ',', ' ', '\\', '\n']));
            }
        }

        #[test]
        fn well_formed_ids_are_accepted(
            domain in "[a-z0-9._-]{1,60}",
            path in proptest::collection::vec("[a-zA-Z0-9_-]{1,12}", 0..6),
        ) {
            let text = path.iter().fold(format!("spiffe://{domain}"), |id, part| id + "/" + part);
            let id: SpiffeId = text.parse().unwrap();
            prop_assert_eq!(id.to_string(), text);
        }
    }
}
