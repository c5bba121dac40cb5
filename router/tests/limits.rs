//! What a tenant may carry per second: beyond it packets are dropped and counted, by tenant, and no other tenant notices.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::num::{NonZeroU32, NonZeroU64};

use common::{Gateway, hopped, udp};
use router::{RouterError, TenantId, TrafficLimits};

const ANY: &str = "0.0.0.0/0";

#[test]
fn a_tenant_has_its_limit_for_itself_and_from_one_moment_to_the_next() {
    let gateway = Gateway::start(2);
    let (tenant, other) = (gateway.hub(1), gateway.hub(2));
    let mut first = gateway.connect(tenant, 1, 11, ANY, "10.1.0.0/16");
    let mut second = gateway.connect(tenant, 2, 12, ANY, "10.2.0.0/16");
    let mut third = gateway.connect(other, 3, 13, ANY, "10.1.0.0/16");
    let mut fourth = gateway.connect(other, 4, 14, ANY, "10.2.0.0/16");
    let packet = |number| udp("10.1.0.1", "10.2.0.1", number, 1200);

    // The first one is worth more than a minute, for it may take what is not there.
    let octets = NonZeroU64::new(16);
    gateway.handle.set_limits(tenant, TrafficLimits { octets, ..TrafficLimits::default() }).unwrap();
    first.send(&packet(0));
    assert_eq!(second.receive(), hopped(&packet(0)));
    for number in 1..=10 {
        first.send(&packet(number));
        third.send(&packet(number));
        assert_eq!(fourth.receive(), hopped(&packet(number)));
    }
    gateway.wait_for("drop_tenant_limit_in", 10);
    assert_eq!(gateway.stats_of(first.spi).drops, [("drop_tenant_limit_in", 10)]);
    assert!(second.is_silent());
    // What was dropped has arrived all the same: the tunnel is alive, and nothing of it may be sent again by somebody else.
    assert_eq!(gateway.stats_of(first.spi).packets_in, 11);

    let packets = NonZeroU32::new(1_000_000);
    gateway.handle.set_limits(tenant, TrafficLimits { packets, octets: None }).unwrap();
    for number in 11..=20 {
        first.send(&packet(number));
        assert_eq!(second.receive(), hopped(&packet(number)));
    }
    gateway.handle.set_limits(tenant, TrafficLimits::default()).unwrap();
    first.send(&packet(21));
    assert_eq!(second.receive(), hopped(&packet(21)));
    assert_eq!(gateway.counter("drop_tenant_limit_in"), 10);
    assert_eq!(gateway.counter("drop_tenant_limit_out"), 0);

    let nobody = gateway.handle.set_limits(TenantId(9), TrafficLimits::default());
    assert!(matches!(nobody, Err(RouterError::UnknownTenant(TenantId(9)))), "{nobody:?}");
}
