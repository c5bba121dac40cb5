//! Messages of the API through the parsers of tenants and peers. What is accepted is written out and accepted again,
//! as the same.

use culvert_proto::v1;
use prost::Message;
use tenants::{PeerSpec, TenantName, TenantSpec};

/// Runs the target: the first octet says which message the rest is.
pub fn run(data: &[u8]) {
    let Some((which, rest)) = data.split_first() else { return };
    let name = TenantName::from_id("acme").expect("a name");
    if which & 1 == 0 {
        let Ok(tenant) = v1::Tenant::decode(rest) else { return };
        match TenantSpec::parse(&name, &tenant) {
            Ok(spec) => assert_eq!(TenantSpec::parse(&name, &spec.to_proto()).as_ref(), Ok(&spec)),
            Err(faults) => assert!(faults.iter().next().is_some(), "refused without a reason"),
        }
    } else {
        let Ok(peer) = v1::Peer::decode(rest) else { return };
        match PeerSpec::parse(&name, &peer) {
            Ok(spec) => {
                assert!(!spec.children.is_empty());
                assert_eq!(PeerSpec::parse(&name, &spec.to_proto()).as_ref(), Ok(&spec));
            }
            Err(faults) => assert!(faults.iter().next().is_some(), "refused without a reason"),
        }
    }
}
