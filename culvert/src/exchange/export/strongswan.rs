//! `swanctl.conf` of strongSwan 5.9 and later.

use ike::Identity;
use ike::wire::numbers::IdType;

use super::{Sheet, culvert_address, quoted_key, without_port};
use crate::exchange::model::{Child, Key, Starts, Tunnel, Version};
use crate::exchange::suite::{NO_PFS, Suite};

/// strongSwan's word for a rekeying without a key exchange of its own.
pub(crate) const NO_GROUP: &str = "modpnone";

pub(super) fn write(tunnel: &Tunnel, sheet: &mut Sheet) -> Result<(), String> {
    let name = &tunnel.name;
    sheet.line(0, format!("# /etc/swanctl/conf.d/{name}.conf; load it with: swanctl --load-all"));
    sheet.line(0, "connections {");
    sheet.line(2, format!("{name} {{"));
    sheet.line(4, format!("version = {}", if tunnel.version.is_v1() { 1 } else { 2 }));
    if tunnel.version == Version::V1Aggressive {
        sheet.line(4, "aggressive = yes");
        if tunnel.starts != Starts::Device {
            sheet.note(
                "strongSwan answers Aggressive Mode only with charon.i_dont_care_about_security_and_use_aggressive_mode_psk = yes",
            );
        }
    }
    let local: Vec<&str> =
        tunnel.device.addresses.iter().map(|address| without_port(address, sheet)).collect();
    if !local.is_empty() {
        sheet.line(4, format!("local_addrs = {}", local.join(", ")));
    }
    let remote = culvert_address(tunnel, sheet);
    sheet.line(4, format!("remote_addrs = {remote}"));
    let ike: Vec<String> = tunnel.ike.iter().map(Suite::ike_text_short).collect();
    sheet.line(4, format!("proposals = {}", ike.join(", ")));
    let life = tunnel.ike_life;
    if let Some(rekey) = life.rekey.or(life.life.map(|life| life - life / 10)) {
        sheet.line(4, format!("rekey_time = {rekey}s"));
        if let Some(over) = life.life.and_then(|life| life.checked_sub(rekey)) {
            sheet.line(4, format!("over_time = {over}s"));
        }
    }
    if let Some(dpd) = tunnel.dpd {
        sheet.line(4, format!("dpd_delay = {dpd}s"));
    }
    if tunnel.force_udp {
        sheet.line(4, "encap = yes");
    }
    let by_certificates = tunnel.key == Key::Certificates;
    for (side, identity) in [("local", &tunnel.device.identity), ("remote", &tunnel.culvert.identity)] {
        sheet.line(4, format!("{side} {{"));
        sheet.line(6, if by_certificates { "auth = pubkey" } else { "auth = psk" });
        sheet.line(6, format!("id = {}", named(identity)?));
        sheet.line(4, "}");
    }
    sheet.line(4, "children {");
    for child in &tunnel.children {
        write_child(child, tunnel.starts, sheet);
    }
    for closing in [4, 2, 0] {
        sheet.line(closing, "}");
    }
    if by_certificates {
        sheet.note(format!(
            "put the certificate of {} into /etc/swanctl/x509, its private key into private, and the authority of Culvert's \
             certificate into x509ca; what is between them and an authority stays beside it",
            tunnel.device.identity.text()
        ));
        return Ok(());
    }
    sheet.line(0, "secrets {");
    sheet.line(2, format!("ike-{name} {{"));
    sheet.line(4, format!("id-1 = {}", named(&tunnel.culvert.identity)?));
    sheet.line(4, format!("id-2 = {}", named(&tunnel.device.identity)?));
    let key = quoted_key(&tunnel.key, sheet);
    sheet.line(4, format!("secret = {key}"));
    sheet.line(2, "}");
    sheet.line(0, "}");
    Ok(())
}

fn write_child(child: &Child, starts: Starts, sheet: &mut Sheet) {
    let subnets =
        |subnets: &[tenants::Cidr]| subnets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    sheet.line(6, format!("{} {{", child.name));
    sheet.line(8, format!("local_ts = {}", subnets(&child.device)));
    sheet.line(8, format!("remote_ts = {}", subnets(&child.culvert)));
    let esp: Vec<String> = child.esp.iter().map(|suite| suite.esp_text().replace(NO_PFS, NO_GROUP)).collect();
    sheet.line(8, format!("esp_proposals = {}", esp.join(", ")));
    if child.transport {
        sheet.line(8, "mode = transport");
    }
    if let Some(rekey) = child.life.rekey {
        sheet.line(8, format!("rekey_time = {rekey}s"));
    }
    if let Some(life) = child.life.life {
        sheet.line(8, format!("life_time = {life}s"));
    }
    if let Some(bytes) = child.life_bytes {
        sheet.line(8, format!("life_bytes = {bytes}"));
    }
    let (start, dpd) = match starts {
        Starts::Device => ("start", "restart"),
        // Culvert brings it up again.
        Starts::Culvert => ("none", "clear"),
        Starts::Packets => ("trap", "trap"),
    };
    sheet.line(8, format!("start_action = {start}"));
    sheet.line(8, format!("dpd_action = {dpd}"));
    sheet.line(6, "}");
}

/// Names of attributes that strongSwan has too.
const ATTRIBUTES: [&str; 10] = ["CN", "C", "ST", "L", "O", "OU", "DC", "UID", "emailAddress", "serialNumber"];

/// An identity as strongSwan takes it: a distinguished name that it would read otherwise by its octets.
fn named(identity: &Identity) -> Result<String, String> {
    let text = identity.text();
    let known = |part: &str| part.split_once('=').is_some_and(|(name, _)| ATTRIBUTES.contains(&name));
    let reads_alike = || !text.contains(['\\', '"', '+', '/', '#']) && text.split(", ").all(known);
    if identity.kind == IdType::ID_DER_ASN1_DN && !reads_alike() {
        let digits = identity.data.iter().fold(String::new(), |digits, octet| format!("{digits}{octet:02x}"));
        return quoted(&format!("asn1dn:#{digits}"));
    }
    quoted(&text)
}

fn quoted(text: &str) -> Result<String, String> {
    if text.chars().any(|c| c.is_control() || c == '"' || c == '\\') {
        return Err(format!("strongSwan does not take the identity {text:?}"));
    }
    Ok(format!("\"{text}\""))
}
