//! The hooks, called as Envoy calls them.

use std::ptr::null_mut;

use super::*;
use crate::abi::fake::{self, seen};

/// A configuration is there, so that logging is allowed.
fn alive() -> abi::Alive {
    fake::install();
    abi::Alive::new()
}

#[test]
fn a_hook_that_panics_is_logged_and_returns_what_is_safe() {
    let _alive = alive();
    assert_eq!(guarded("a_hook", 7, || panic!("{} of them", 3)), 7);
    assert_eq!(guarded("another", 8, || std::panic::panic_any(())), 8);
    assert_eq!(
        seen(|seen| seen.log.clone()),
        [
            "meshkey: a_hook panicked: 3 of them",
            "meshkey: another panicked: no reason"
        ]
    );
}

#[test]
fn a_filter_whose_hook_panics_closes_its_connection() {
    let _alive = alive();
    let factory = CompanionFactory::new(null_mut(), b"").unwrap();
    let filter = Box::new(Filter::Companion(
        factory.companion(NetworkFilter(null_mut())),
    ));
    let module = std::ptr::from_ref(&*filter).cast();
    let connected = ConnectionEvent::Connected as c_int;
    companion::while_in_use(|| {
        // SAFETY: `module` lives until the end of the test.
        unsafe { envoy_dynamic_module_on_network_filter_event(null_mut(), module, connected) };
    });
    assert_eq!(seen(|seen| (seen.closed, seen.continued)), (1, 0));
    let said = seen(|seen| seen.log.join("\n"));
    assert!(said.contains("event panicked: "), "{said}");
}

#[test]
fn an_unknown_host_is_refused_at_load_with_the_versions_that_work() {
    fake::install();
    let name = Bytes::borrowing(TRANSPORT_SOCKET.as_bytes());
    let json = br#"{"signer":"/s","peers":{"trust_domain":"demo.mesh"}}"#;
    let json = Bytes::borrowing(json);
    // SAFETY: the buffers are constants.
    let socket = unsafe {
        envoy_dynamic_module_on_transport_socket_factory_config_new(null_mut(), name, json, false)
    };
    let name = Bytes::borrowing(COMPANION.as_bytes());
    // SAFETY: as above.
    let filter = unsafe {
        envoy_dynamic_module_on_network_filter_config_new(null_mut(), name, Bytes::EMPTY)
    };
    assert!(socket.is_null() && filter.is_null());
    let said = seen(|seen| seen.log.clone());
    assert_eq!(said.len(), 2, "{said:?}");
    for line in said {
        assert!(
            line.starts_with("meshkey: this Envoy (callbacks "),
            "{line}"
        );
        let end = "is not supported: the module is made for Envoy 1.40.0";
        assert!(line.ends_with(end), "{line}");
    }
}
