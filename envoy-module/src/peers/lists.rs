//! The text of a file of peer lists: a JSON object from an entry's name to a list
//! of SPIFFE IDs that is not empty.
//!
//! ```json
//! {"server.demo.svc.cluster.local": ["spiffe://cluster.local/ns/demo/sa/server"]}
//! ```

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{Error, MapAccess, Visitor};

use crate::spiffe::SpiffeId;

/// All lists of one file, at one time.
#[derive(Debug)]
pub struct Lists(HashMap<String, HashSet<SpiffeId>>);

impl Lists {
    /// The error is one line. A single mistake refuses the whole file.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let Document(entries) = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        entries
            .into_iter()
            .map(|(entry, ids)| {
                let ids = peers(&ids).map_err(|reason| format!("entry {entry:?}: {reason}"))?;
                Ok((entry, ids))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub fn of(&self, entry: &str) -> Option<&HashSet<SpiffeId>> {
        self.0.get(entry)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn peers(ids: &[String]) -> Result<HashSet<SpiffeId>, String> {
    if ids.is_empty() {
        return Err("an empty list: leave the entry out to accept nobody".to_owned());
    }
    ids.iter().map(|id| workload(id)).collect()
}

fn workload(text: &str) -> Result<SpiffeId, String> {
    let id: SpiffeId = text.parse()?;
    if !id.has_path() {
        return Err(format!("{id} is a trust domain, not a workload"));
    }
    Ok(id)
}

/// An object whose names are all different: which of two lists counts would depend
/// on the reader.
struct Document(HashMap<String, Vec<String>>);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Document;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of lists of SPIFFE IDs")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Document, A::Error> {
        let mut entries = HashMap::new();
        while let Some((entry, ids)) = access.next_entry::<String, Vec<String>>()? {
            if entries.contains_key(&entry) {
                return Err(A::Error::custom(format!("entry {entry:?} is there twice")));
            }
            entries.insert(entry, ids);
        }
        Ok(Document(entries))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::certificates::{CLIENT, SERVER};

    #[test]
    fn every_entry_has_its_own_peers() {
        let json = format!(r#"{{"a":["{CLIENT}","{SERVER}"],"b":["{SERVER}"]}}"#);
        let lists = Lists::parse(json.as_bytes()).unwrap();
        let (client, server) = (CLIENT.parse().unwrap(), SERVER.parse().unwrap());
        assert!(lists.of("a").unwrap().contains(&client));
        assert!(!lists.of("b").unwrap().contains(&client));
        assert!(lists.of("b").unwrap().contains(&server));
        assert!(lists.of("c").is_none());
        assert_eq!(Lists::parse(b"{}").unwrap().len(), 0);
    }

    #[test]
    fn a_file_with_a_mistake_is_refused_and_the_mistake_is_named() {
        let one = format!(r#"["{CLIENT}"]"#);
        for (json, word) in [
            (String::new(), "EOF"),
            ("[]".to_owned(), "an object of lists"),
            (r#"{"a":[]}"#.to_owned(), "entry \"a\": an empty list"),
            (
                format!(r#"{{"a":{one},"a":{one}}}"#),
                "entry \"a\" is there twice",
            ),
            (format!(r#"{{"a":{one}}} {{}}"#), "trailing"),
            (format!(r#"{{"a":"{CLIENT}"}}"#), "expected a sequence"),
            (
                format!(r#"{{"a":{{"spiffe_ids":{one}}}}}"#),
                "expected a sequence",
            ),
            (r#"{"a":[1]}"#.to_owned(), "expected a string"),
            (r#"{"a":null}"#.to_owned(), "expected a sequence"),
            (r#"{"a":["server.demo"]}"#.to_owned(), "is not a SPIFFE ID"),
            (
                r#"{"a":["spiffe://demo.mesh"]}"#.to_owned(),
                "not a workload",
            ),
            (
                r#"{"a":["spiffe://demo.mesh/*"]}"#.to_owned(),
                "only letters",
            ),
        ] {
            let error = Lists::parse(json.as_bytes()).unwrap_err();
            assert!(
                error.contains(word) && !error.contains('\n'),
                "{json}: {error}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(json in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Lists::parse(&json);
        }
    }
}
